//! What a scenario that failed leaves to be read: its namespace as the cluster saw it, and what the controllers said of it.
//! A failure that comes once in a hundred runs is understood from this, or not at all.

use super::{bed::Bed, controllers::Controllers};

/// What is shown of the namespace; the Services with their ports, which are the way in.
const VIEWS: [&[&str]; 3] = [
    &[
        "get",
        "services,endpointslices,deployments,daemonsets,pods,gatewayparameters",
        "--output=wide",
    ],
    &["describe", "gateways"],
    &["get", "events", "--sort-by=.lastTimestamp"],
];
/// Lines of the controllers' logs that are looked at, of each pod; chaos writes most of them.
const LOG_LINES: &str = "--tail=2000";
/// Of those that name the namespace, this many are shown.
const SHOWN_LINES: usize = 60;

/// Prints it. What cannot be had is said in its place: the failure is another one.
pub(super) async fn print(bed: &Bed) {
    for view in VIEWS {
        section(&view.join(" "), bed.run(view).await);
    }
    let logs = ["logs", "--prefix", LOG_LINES, Controllers::SELECTOR];
    let of_namespace = Controllers(bed)
        .run(&logs)
        .await
        .map(|logs| last_lines_with(&logs, &bed.namespace));
    section("logs of the controllers", of_namespace);
}

fn section(title: &str, text: anyhow::Result<String>) {
    println!("          --- {title}");
    let text = text.unwrap_or_else(|error| format!("{error:#}"));
    for line in text.lines() {
        println!("          {line}");
    }
}

fn last_lines_with(text: &str, what: &str) -> String {
    let lines: Vec<&str> = text.lines().filter(|line| line.contains(what)).collect();
    let (_, shown) = lines.split_at(lines.len().saturating_sub(SHOWN_LINES));
    shown.join("\n")
}

#[cfg(test)]
mod tests {
    use super::{SHOWN_LINES, last_lines_with};

    #[test]
    fn the_last_lines_of_the_namespace_are_shown() {
        let lines =
            (0..1000).map(|n| format!("{n} of {}", if n % 2 == 0 { "mine" } else { "others" }));
        let text = lines.collect::<Vec<_>>().join("\n");
        let shown = last_lines_with(&text, "mine");
        assert_eq!(shown.lines().count(), SHOWN_LINES);
        assert!(shown.ends_with("998 of mine"), "{shown}");
        assert_eq!(last_lines_with("1 of mine", "mine"), "1 of mine");
    }
}
