//! Import and export.

use serde_json::json;
use tempfile::TempDir;
use tests::Node;

use super::{add, digest, failing, search, texts};

#[tokio::test]
async fn an_import_takes_lines_json_and_markdown_once() {
    let node = Node::start().await;
    let dir = TempDir::new().unwrap();
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    std::fs::write(
        path("notes.txt"),
        "The well is behind the barn.\n\n  The barn is red.  \r\nlast line without an end",
    )
    .unwrap();
    let taken = node.json(&["memory", "import", &path("notes.txt"), "--space", "farm"]).await;
    assert_eq!((&taken["added"], &taken["known"], &taken["bad"]), (&json!(3), &json!(0), &json!(0)));
    let again = node.json(&["memory", "import", &path("notes.txt"), "--space", "farm"]).await;
    assert_eq!((&again["added"], &again["known"]), (&json!(0), &json!(3)), "twice adds nothing");
    assert_eq!(
        texts(&search(&node, &["where is the well", "--space", "farm"]).await)[0],
        "The well is behind the barn."
    );

    let id = "00112233445566778899aabbccddeeff";
    let lines = [
        format!(
            r#"{{"text":"Hens lay in spring","id":"{id}","kind":"episodic","tags":["hens"],"created_at":1600000000}}"#
        ),
        r#"{"text":"broken"#.to_owned(),
        r#"{"words":"no text"}"#.to_owned(),
        r#"{"text":"x","importance":9}"#.to_owned(),
        r#"{"text":"Geese bite","space":"farm","tags":["geese"]}"#.to_owned(),
    ];
    std::fs::write(path("farm.jsonl"), lines.join("\n")).unwrap();
    let (code, out, err) = node.cli(&["memory", "import", &path("farm.jsonl"), "--json"]).await;
    let taken: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!((code, &taken["added"], &taken["bad"]), (1, &json!(2), &json!(3)), "{out}{err}");
    assert_eq!(taken["first_bad"]["at"], "line 2");
    assert!(err.contains("line 2") && err.contains("not JSON"), "{err}");
    let shown = node.json(&["memory", "show", id]).await;
    assert_eq!(
        (&shown["created_at"], &shown["kind"], &shown["space"]),
        (&json!(1_600_000_000), &json!("episodic"), &json!("fleet"))
    );

    std::fs::create_dir_all(dir.path().join("vault/deep/.hidden")).unwrap();
    std::fs::write(path("vault/Boats.md"), "---\ntitle: x\n---\n# Mary\n\nShe leaks.\n\n# Anna\n\nShe floats.\n")
        .unwrap();
    std::fs::write(path("vault/deep/Tides.md"), "High at noon.").unwrap();
    std::fs::write(path("vault/deep/.hidden/No.md"), "not this").unwrap();
    std::fs::write(path("vault/photo.jpg"), b"\xff\xd8").unwrap();
    for added in [3, 0] {
        let taken = node.json(&["memory", "import", &path("vault")]).await;
        assert_eq!((&taken["added"], &taken["bad"]), (&json!(added), &json!(0)));
    }
    let found = search(&node, &["which boat leaks", "--tag", "Boats"]).await;
    assert_eq!(texts(&found)[0], "Mary\n\nShe leaks.");
    let (code, err) = failing(node.dir(), &["memory", "import", &path("nothing")]).await;
    assert!(code == 1 && err.contains("cannot read"), "{err}");
    std::fs::write(path("long"), format!("short\n{}\nend", "x".repeat(3 << 20))).unwrap();
    let (code, out, _) = node.cli(&["memory", "import", &path("long"), "--json"]).await;
    let taken: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!((code, &taken["added"], &taken["first_bad"]["at"]), (1, &json!(2), &json!("line 2")), "{out}");
}

#[tokio::test]
async fn an_export_taken_in_by_another_node_gives_the_same_memory() {
    let node = Node::start().await;
    for n in 0..20 {
        add(&node, &[&format!("Lamp {n} stands on the quay"), "--space", ["fleet", "private", "sea"][n % 3]]).await;
    }
    let gone = add(&node, &["Lamp twenty is a lie"]).await;
    node.json(&[
        "memory",
        "page",
        "edit",
        "lamps",
        "--text",
        "All of them.",
        "--add",
        "first",
        "--set",
        "colour=green",
    ])
    .await;
    node.json(&["memory", "page", "edit", "lamps", "--append", "Even the last."]).await;
    let dir = TempDir::new().unwrap();
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    node.json(&["memory", "export", &path("before.jsonl")]).await;
    node.json(&["memory", "forget", &gone, "--yes"]).await;
    let told = node.json(&["memory", "export", &path("all.jsonl")]).await;
    let (code, err) = failing(node.dir(), &["memory", "export", &path("all.jsonl")]).await;
    assert!(code == 1 && err.contains("does not exist yet"), "{err}");

    let text = std::fs::read_to_string(path("all.jsonl")).unwrap();
    assert_eq!(told["lines"].as_u64(), Some(text.lines().count() as u64));
    assert!(text.contains("\"page\":\"lamps\"") && text.contains(&format!("\"forgotten\":[\"{gone}\"]")), "{text}");
    assert!(!text.contains("Lamp twenty"));
    let (_, stdout, _) = node.cli(&["memory", "export"]).await;
    assert_eq!(stdout, text, "a file and standard output say the same");
    let (_, sea, _) = node.cli(&["memory", "export", "--space", "sea"]).await;
    assert!(sea.lines().count() == 6 && sea.lines().all(|l| l.contains("\"space\":\"sea\"")), "{sea}");

    let other = Node::start().await;
    let taken = other.json(&["memory", "import", &path("all.jsonl")]).await;
    assert_eq!((&taken["bad"], &taken["added"]), (&json!(0), &told["lines"]), "{taken}");
    assert_eq!(digest(&other).await, digest(&node).await, "equal heads");
    let again = other.json(&["memory", "import", &path("all.jsonl")]).await;
    assert_eq!((&again["added"], &again["known"]), (&json!(0), &told["lines"]), "{again}");
    let page = other.json(&["memory", "page", "show", "lamps"]).await;
    assert_eq!(page, node.json(&["memory", "page", "show", "lamps"]).await);
    assert_eq!(texts(&search(&other, &["lamp 7 on the quay"]).await)[0], "Lamp 7 stands on the quay");

    // What was forgotten does not come back by an older export.
    let old = node.cli(&["memory", "import", &path("before.jsonl"), "--json"]).await;
    let taken: serde_json::Value = serde_json::from_str(&old.1).unwrap();
    assert!(taken["forgotten"].as_u64().unwrap() >= 1 && taken["added"] == 0, "{taken}");
    assert!(!texts(&search(&node, &["lamp twenty lie"]).await).contains(&"Lamp twenty is a lie"));
    // Changing a signed line makes it worthless.
    let forged = text.replacen("\"content\":\"", "\"content\":\"AAAA", 1);
    std::fs::write(path("forged.jsonl"), forged.lines().next().unwrap()).unwrap();
    let third = Node::start().await;
    let (code, out, _) = third.cli(&["memory", "import", &path("forged.jsonl"), "--json"]).await;
    assert!(code == 1 && out.contains("\"added\":0"), "{out}");
}

#[tokio::test]
async fn standard_input_is_imported_as_it_comes() {
    use tokio::io::AsyncWriteExt;
    let node = Node::start().await;
    let mut child = tokio::process::Command::new(tests::node::binary())
        .args(["--data-dir", node.dir().to_str().unwrap(), "memory", "import", "-", "--json"])
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    for n in 0..1_203 {
        stdin.write_all(format!("Rope {n} is coiled on deck\n").as_bytes()).await.unwrap();
    }
    drop(stdin);
    let out = child.wait_with_output().await.unwrap();
    let taken: serde_json::Value = serde_json::from_slice(&out.stdout).unwrap();
    assert_eq!((out.status.code(), &taken["added"]), (Some(0), &json!(1_203)), "{taken}");
    assert_eq!(node.json(&["memory", "stats"]).await["entries"], 1_203);
}
