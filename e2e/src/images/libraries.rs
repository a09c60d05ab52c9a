//! The shared libraries that a program needs, with the loader. They go into its image, so that the binaries that cargo
//! builds anyway are the ones in the image.

use std::{fs, path::Path, path::PathBuf, process::Command};

use anyhow::{Context, Result, ensure};

/// First bytes of an ELF file, and where its `e_type` stands is no matter here: ldd reads the rest.
const ELF: &[u8] = b"\x7fELF";

/// Absolute paths of the libraries of `program`; none for a static one.
pub(super) fn of(program: &Path) -> Result<Vec<PathBuf>> {
    let bytes = fs::read(program).with_context(|| program.display().to_string())?;
    ensure!(
        bytes.starts_with(ELF),
        "{} is not an ELF program",
        program.display()
    );
    let output = Command::new("ldd")
        .arg(program)
        .env("LC_ALL", "C")
        .output()
        .context("cannot start ldd")?;
    let (told, complaint) = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    if complaint.contains("not a dynamic executable") || told.contains("statically linked") {
        return Ok(Vec::new());
    }
    ensure!(
        output.status.success(),
        "ldd {}: {complaint}",
        program.display()
    );
    paths(&told)
}

/// The paths in what ldd prints: `libc.so.6 => /lib/libc.so.6 (0x7f)`, and the loader as `/lib64/ld.so (0x7f)`.
fn paths(told: &str) -> Result<Vec<PathBuf>> {
    let missing: Vec<&str> = told
        .lines()
        .filter(|line| line.contains("not found"))
        .map(str::trim)
        .collect();
    ensure!(missing.is_empty(), "libraries are missing: {missing:?}");
    Ok(told
        .lines()
        .filter_map(|line| line.split_whitespace().find(|word| word.starts_with('/')))
        .map(PathBuf::from)
        .collect())
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::paths;

    #[test]
    fn libraries_and_loader_are_found_in_what_ldd_prints() {
        let told = "\tlinux-vdso.so.1 (0x7f)\n\tlibm.so.6 => /lib/libm.so.6 (0x7f)\n\t/lib64/ld-linux-x86-64.so.2 (0x7f)\n";
        assert_eq!(
            paths(told).unwrap(),
            ["/lib/libm.so.6", "/lib64/ld-linux-x86-64.so.2"].map(PathBuf::from)
        );
        assert!(paths("\tlibx.so.1 => not found\n").is_err());
    }
}
