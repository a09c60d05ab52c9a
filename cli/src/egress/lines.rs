//! Lines of a log out of pieces of any length, in bounded memory.

/// Longest line, bytes: a decision has less. What is longer is one line that is not read.
const MAX_LINE: usize = 64 * 1024;

/// Puts lines together.
#[derive(Debug, Default)]
pub(super) struct Lines {
    partial: Vec<u8>,
    /// The line that has begun is longer than [`MAX_LINE`].
    is_overlong: bool,
}

impl Lines {
    /// Hands on the lines that end in the next piece: `None` for one that is too long or no UTF-8.
    pub(super) fn feed(&mut self, piece: &[u8], line: &mut impl FnMut(Option<&str>)) {
        for part in piece.split_inclusive(|byte| *byte == b'\n') {
            match part.strip_suffix(b"\n") {
                Some(last) => {
                    self.keep(last);
                    self.finish(line);
                }
                None => self.keep(part),
            }
        }
    }

    /// Hands on the line that was begun, if there is one, and makes room for the next.
    pub(super) fn finish(&mut self, line: &mut impl FnMut(Option<&str>)) {
        if self.is_overlong {
            line(None);
        } else if !self.partial.trim_ascii().is_empty() {
            line(std::str::from_utf8(&self.partial).ok());
        }
        self.partial.clear();
        self.is_overlong = false;
    }

    fn keep(&mut self, part: &[u8]) {
        if self.partial.len() + part.len() > MAX_LINE {
            self.is_overlong = true;
        }
        if !self.is_overlong {
            self.partial.extend_from_slice(part);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The lines of some pieces; `-` is one that cannot be read.
    fn lines(pieces: &[&[u8]]) -> Vec<String> {
        let (mut lines, mut found) = (Lines::default(), Vec::new());
        let mut keep = |line: Option<&str>| found.push(line.unwrap_or("-").to_owned());
        for piece in pieces {
            lines.feed(piece, &mut keep);
        }
        lines.finish(&mut keep);
        found
    }

    #[test]
    fn lines_may_begin_and_end_anywhere() {
        assert_eq!(
            lines(&[b"on", b"e\ntwo\n", b"", b"\n thr", b"ee"]),
            ["one", "two", " three"]
        );
        assert_eq!(lines(&[b"\xff\n", b"a\r\n"]), ["-", "a\r"]);
        assert!(lines(&[b"", b" \n"]).is_empty());
    }

    #[test]
    fn what_is_too_long_is_one_line_and_takes_no_memory() {
        let long = vec![b'x'; MAX_LINE];
        assert_eq!(
            lines(&[&long, b"x", &long, b"\nnext\n", &long, b"y"]),
            ["-", "next", "-"]
        );
        let mut one = Lines::default();
        for _ in 0..10 {
            one.feed(&long, &mut |_| {});
        }
        assert!(one.partial.len() <= MAX_LINE);
        assert_eq!(lines(&[&long])[0].len(), MAX_LINE);
    }
}
