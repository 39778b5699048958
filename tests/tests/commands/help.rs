//! `--help`, completions and the manual page. The help of every command is compared with `tests/tests/commands/help.txt`;
//! `TIMMY_UPDATE_HELP=1 cargo test -p tests --test commands help` writes it anew.

use std::path::Path;

use tempfile::TempDir;
use tests::node::cli;

const COMMANDS: [&[&str]; 53] = [
    &[],
    &["run"],
    &["init"],
    &["id"],
    &["status"],
    &["doctor"],
    &["ask"],
    &["job"],
    &["job", "submit"],
    &["job", "list"],
    &["job", "show"],
    &["job", "replay"],
    &["job", "cancel"],
    &["memory"],
    &["memory", "add"],
    &["memory", "search"],
    &["memory", "show"],
    &["memory", "import"],
    &["memory", "export"],
    &["memory", "forget"],
    &["memory", "reindex"],
    &["memory", "stats"],
    &["memory", "consolidate"],
    &["memory", "prune"],
    &["memory", "share"],
    &["memory", "page"],
    &["memory", "page", "list"],
    &["memory", "page", "show"],
    &["memory", "page", "edit"],
    &["memory", "page", "forget"],
    &["peer"],
    &["peer", "list"],
    &["peer", "invite"],
    &["peer", "join"],
    &["peer", "admin"],
    &["peer", "remove"],
    &["peer", "doctor"],
    &["matrix"],
    &["matrix", "login"],
    &["matrix", "recovery-key"],
    &["matrix", "status"],
    &["attest"],
    &["auction"],
    &["auction", "verify"],
    &["backup"],
    &["restore"],
    &["config"],
    &["config", "check"],
    &["config", "show"],
    &["config", "reference"],
    &["paths"],
    &["completions"],
    &["man"],
];

async fn output(args: &[&str]) -> String {
    let dir = TempDir::new().unwrap();
    let (code, out, err) = cli(dir.path(), args).await;
    assert_eq!(code, 0, "{args:?}: {err}");
    out
}

#[tokio::test]
async fn the_help_of_every_command_is_the_one_that_was_reviewed() {
    let mut all = String::new();
    for command in COMMANDS {
        let args: Vec<&str> = command.iter().copied().chain(["--help"]).collect();
        // The binary under test has another name than the product's, and the environment shows in `[env: …]`.
        let text = output(&args).await.replace("timmy-under-test", "timmy");
        let text: Vec<String> = text.lines().map(|l| without_environment(l.trim_end())).collect();
        all.push_str(&format!("$ timmy {}\n{}\n\n", args.join(" "), text.join("\n").trim()));
    }
    let path = Path::new("tests/commands/help.txt");
    if std::env::var_os("TIMMY_UPDATE_HELP").is_some() {
        std::fs::write(path, &all).unwrap();
    }
    let reviewed = std::fs::read_to_string(path).unwrap_or_default();
    let changed = all.lines().zip(reviewed.lines()).find(|(now, then)| now != then);
    assert!(all == reviewed, "the help changed, first here: {changed:?}; if it is meant, run with TIMMY_UPDATE_HELP=1");
    for word in all.lines().filter_map(|l| l.strip_prefix("  ")).filter_map(|l| l.split_whitespace().next()) {
        let known = COMMANDS.iter().any(|c| c.contains(&word));
        let command = word.bytes().all(|b| b.is_ascii_lowercase()) && all.contains(&format!("\n  {word}  "));
        assert!(known || !command || word == "help", "`{word}` is missing in this test");
    }
}

/// `[env: NAME=value]` as `[env: NAME=]`.
fn without_environment(line: &str) -> String {
    let Some((before, rest)) = line.split_once("[env: ") else { return line.to_owned() };
    let (variable, after) = rest.split_once(']').unwrap_or((rest, ""));
    let name = variable.split('=').next().unwrap_or_default();
    format!("{before}[env: {name}=]{after}")
}

#[tokio::test]
async fn completions_are_written_for_each_shell() {
    for shell in ["bash", "zsh", "fish"] {
        let script = output(&["completions", shell]).await;
        for word in ["timmy", "doctor", "restore", "submit"] {
            assert!(script.contains(word), "{shell} completes no `{word}`");
        }
    }
}

#[tokio::test]
async fn the_manual_page_names_every_command_and_every_configuration_key() {
    let page = output(&["man"]).await.replace("\\-", "-");
    for command in COMMANDS.iter().skip(1) {
        let title = format!(".SH \"TIMMY {}\"", command.join(" ").to_uppercase());
        assert!(page.contains(&title), "the manual has no {title}");
    }
    let reference = output(&["config", "reference"]).await;
    let keys: Vec<&str> =
        reference.lines().map(|l| l.trim_start_matches(['#', ' '])).filter(|l| l.contains(" = ")).collect();
    assert!(keys.len() > 30, "{reference}");
    for key in keys.iter().filter_map(|l| l.split(" = ").next()) {
        assert!(page.contains(key), "the manual does not name `{key}`");
    }
    for section in [
        "[node]",
        "[owner]",
        "[safety]",
        "[nostr]",
        "[relay]",
        "[dvm]",
        "[[models]]",
        "[embedder]",
        "[matrix]",
        "[tools]",
        "[voice]",
        "[federation]",
    ] {
        assert!(page.contains(section), "the manual does not name {section}");
    }
}
