//! The commands of the README, run as they stand there, against a node.

#![allow(clippy::unwrap_used)]

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use tests::PATIENCE;
use tests::node::binary;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

fn root() -> PathBuf {
    PathBuf::from("..")
}

/// The commands in the blocks that the README marks as run here.
fn commands() -> Vec<String> {
    let readme = std::fs::read_to_string(root().join("README.md")).unwrap();
    let blocks = readme.split("<!-- run by CI: tests/tests/readme.rs -->\n```sh\n").skip(1);
    blocks.flat_map(|b| b.split("```").next().unwrap().lines().map(str::to_owned).collect::<Vec<_>>()).collect()
}

/// A node started as the README says, for people: its address and its claim code come from the welcome text.
async fn start(home: &Path) -> (Child, String, String) {
    let mut child = Command::new(binary())
        .args(["run", "--listen", "127.0.0.1:0"])
        .env("TIMMY_HOME", home)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let (mut relay, mut claim) = (String::new(), String::new());
    while relay.is_empty() || claim.is_empty() {
        let line = tokio::time::timeout(PATIENCE, lines.next_line()).await.unwrap().unwrap().expect("the node ended");
        let words: Vec<&str> = line.split_whitespace().collect();
        match words[..] {
            ["relay", url] => url.clone_into(&mut relay),
            ["-", "become", .., code] => code.clone_into(&mut claim),
            _ => {}
        }
    }
    (child, relay, claim)
}

#[tokio::test]
async fn the_first_conversation_works_as_the_readme_tells_it() {
    let commands = commands();
    assert!(commands.len() >= 6, "{commands:?}");
    let dir = tempfile::tempdir().unwrap();
    let home = dir.path().join("home");
    let (mut node, relay, claim) = start(&home).await;
    symlink(binary(), dir.path().join("timmy")).unwrap();
    let path = format!("{}:{}", dir.path().display(), std::env::var("PATH").unwrap());
    let mut outputs = Vec::new();
    for command in commands.iter().filter(|c| *c != "make tools") {
        let line = command.replace("ws://127.0.0.1:7777", &relay).replace("CLAIM-CODE", &claim);
        let run = Command::new("bash")
            .args(["-c", &line])
            .current_dir(root())
            .env("PATH", &path)
            .env("TIMMY_HOME", &home)
            .env("TIMMY_HELLO_KEY", dir.path().join("hello.nsec"))
            .output();
        let out =
            tokio::time::timeout(PATIENCE, run).await.unwrap_or_else(|_| panic!("`{line}` does not end")).unwrap();
        let text = String::from_utf8_lossy(&out.stdout).into_owned();
        assert!(out.status.success(), "`{line}`: {text}{}", String::from_utf8_lossy(&out.stderr));
        outputs.push(text);
    }
    assert!(outputs[0].contains("no_owner") && outputs[1].contains("no language model"), "{outputs:?}");
    assert!(outputs[2].contains("elay") && outputs[3].contains("settled"), "{outputs:?}");
    assert!(outputs[4].contains("Clients") && outputs[5].contains("You are my owner now"), "{outputs:?}");
    assert!(outputs[7].contains("spare key") && outputs[8].contains("milk"), "{outputs:?}");
    node.kill().await.unwrap();
}
