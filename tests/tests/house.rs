//! The house of DESIGN §2: who may depend on whom, and what the protocol crate must never reach.

#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

/// The rooms that exist now and what each may depend on, inside the workspace.
const ARROWS: [(&str, &[&str]); 7] = [
    ("nips", &[]),
    ("relay", &["nips"]),
    ("memory", &["nips"]),
    ("federation", &["nips"]),
    ("bots", &["nips"]),
    ("daemon", &["nips", "relay", "memory", "federation", "bots"]),
    ("tests", &["daemon", "relay", "memory", "federation", "bots", "nips"]),
];

fn root() -> PathBuf {
    PathBuf::from("..")
}

fn metadata() -> Value {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args(["metadata", "--format-version", "1", "--offline", "--locked"])
        .current_dir(root())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Names of workspace members and, for each, the members that it depends on in any way (dev and build too).
fn rooms(metadata: &Value) -> BTreeMap<String, BTreeSet<String>> {
    let members: BTreeSet<&str> =
        metadata["workspace_members"].as_array().unwrap().iter().map(|m| m.as_str().unwrap()).collect();
    let packages = metadata["packages"].as_array().unwrap();
    let own: Vec<&Value> = packages.iter().filter(|p| members.contains(p["id"].as_str().unwrap())).collect();
    let names: BTreeSet<&str> = own.iter().map(|p| p["name"].as_str().unwrap()).collect();
    let of = |package: &&Value| {
        let needs = package["dependencies"].as_array().unwrap().iter().map(|d| d["name"].as_str().unwrap());
        let inside = needs.filter(|n| names.contains(n)).map(str::to_owned).collect();
        (package["name"].as_str().unwrap().to_owned(), inside)
    };
    own.iter().map(of).collect()
}

/// Every package that `room` reaches by normal dependencies, on any platform.
fn reached(metadata: &Value, room: &str) -> BTreeSet<String> {
    let nodes: BTreeMap<&str, &Value> = metadata["resolve"]["nodes"]
        .as_array()
        .unwrap()
        .iter()
        .map(|node| (node["id"].as_str().unwrap(), node))
        .collect();
    let names: BTreeMap<&str, &str> = metadata["packages"]
        .as_array()
        .unwrap()
        .iter()
        .map(|p| (p["id"].as_str().unwrap(), p["name"].as_str().unwrap()))
        .collect();
    let start = *names
        .iter()
        .find(|(id, name)| {
            **name == room && metadata["workspace_members"].as_array().unwrap().iter().any(|m| m == **id)
        })
        .unwrap()
        .0;
    let (mut open, mut seen) = (vec![start], BTreeSet::new());
    while let Some(id) = open.pop() {
        for dependency in nodes[id]["deps"].as_array().unwrap() {
            let normal = dependency["dep_kinds"].as_array().unwrap().iter().any(|kind| kind["kind"].is_null());
            let id = dependency["pkg"].as_str().unwrap();
            if normal && seen.insert(id) {
                open.push(id);
            }
        }
    }
    seen.into_iter().map(|id| names[id].to_owned()).collect()
}

#[test]
fn dependencies_point_only_where_the_design_says() {
    let rooms = rooms(&metadata());
    let allowed: BTreeMap<&str, &[&str]> = ARROWS.into_iter().collect();
    for (room, needs) in &rooms {
        let may = allowed.get(room.as_str()).unwrap_or_else(|| panic!("`{room}` is no room of DESIGN §2"));
        let beyond: Vec<_> = needs.iter().filter(|n| !may.contains(&n.as_str())).collect();
        assert!(beyond.is_empty(), "`{room}` may not depend on {beyond:?}");
    }
    for (room, _) in ARROWS {
        assert!(rooms.contains_key(room), "the room `{room}` is missing");
    }
}

#[test]
fn the_top_level_holds_rooms_that_exist_and_no_empty_shells() {
    for (room, _) in ARROWS {
        let sources = root().join(room).join("src");
        assert!(lines(&sources) > 100, "{} is an empty shell", sources.display());
    }
}

#[test]
fn the_specification_has_its_documents() {
    for document in ["identity", "jobs", "glossary"] {
        let found = std::fs::read_dir(root().join("spec"))
            .unwrap()
            .any(|entry| entry.unwrap().file_name().to_string_lossy().contains(document));
        assert!(found, "spec/ has no document named {document}");
    }
    assert!(std::fs::read_dir(root().join("spec/decisions")).unwrap().count() > 0);
}

#[test]
fn the_protocol_crate_reaches_no_runtime_no_socket_and_no_database() {
    let reached = reached(&metadata(), "nips");
    assert!(reached.contains("nostr"), "the walk over the dependencies found nothing: {reached:?}");
    let forbidden = [
        "tokio",
        "mio",
        "hyper",
        "reqwest",
        "rusqlite",
        "heed",
        "async-std",
        "smol",
        "socket2",
        "axum",
        "nostr-sdk",
        "nostr-relay-pool",
        "tokio-tungstenite",
        "tungstenite",
        "libsqlite3-sys",
        "lmdb-master-sys",
    ];
    let found: Vec<_> = forbidden.iter().filter(|name| reached.contains(**name)).collect();
    assert!(found.is_empty(), "nips reaches {found:?}");
}

#[test]
fn the_protocol_crate_reads_no_clock_no_file_no_socket_and_no_chance() {
    let forbidden = [
        "SystemTime",
        "Instant::now",
        "Timestamp::now",
        "Utc::now",
        "std::net::Tcp",
        "std::net::Udp",
        "std::fs",
        "std::env",
        "OsRng",
        "thread_rng",
        "rand::",
        "getrandom",
        "Keys::generate",
        "SecretKey::generate",
        "std::thread",
        "println!",
        "EventBuilder::gift_wrap",
        "ToSocketAddrs",
    ];
    let mut files = Vec::new();
    sources(&root().join("nips/src"), &mut files);
    assert!(files.len() > 10, "the scan found only {files:?}");
    for file in files {
        let text = std::fs::read_to_string(&file).unwrap();
        for (number, line) in product_lines(&text) {
            for word in forbidden {
                assert!(!line.contains(word), "{}:{number}: {word} in `{line}`", file.display());
            }
        }
    }
}

#[test]
fn the_scan_sees_code_and_leaves_tests_and_comments_out() {
    let text = "//! SystemTime\nuse x; // OsRng\nlet t = Instant::now();\n#[cfg(test)]\nmod tests {\n    Keys::generate();\n}\nlet k = OsRng;\n";
    let seen: Vec<_> = product_lines(text).into_iter().filter(|(_, l)| !l.trim().is_empty()).collect();
    assert_eq!(seen, [(2, "use x; "), (3, "let t = Instant::now();"), (8, "let k = OsRng;")]);
}

/// Lines of a source file without comments and without its `#[cfg(test)]` modules, numbered from 1.
fn product_lines(text: &str) -> Vec<(usize, &str)> {
    let mut lines = Vec::new();
    let mut in_tests = false;
    for (index, line) in text.lines().enumerate() {
        // A module of tests stands at the left margin and ends with a brace there.
        if line.starts_with("#[cfg(test)]") {
            in_tests = true;
        } else if in_tests {
            in_tests = !(line.starts_with('}') || (line.starts_with("mod ") && line.ends_with(';')));
        } else {
            lines.push((index + 1, line.split("//").next().unwrap_or_default()));
        }
    }
    lines
}

fn sources(dir: &Path, into: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, into);
        } else if path.extension().is_some_and(|e| e == "rs") && !path.ends_with("tests.rs") {
            into.push(path);
        }
    }
}

fn lines(dir: &Path) -> usize {
    let mut files = Vec::new();
    sources(dir, &mut files);
    files.iter().map(|file| std::fs::read_to_string(file).unwrap().lines().count()).sum()
}
