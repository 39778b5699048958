//! A real homeserver (Synapse) and real people (matrix-js-sdk, the stack of Element Web) for the tests of the Matrix door.

use std::path::Path;
use std::process::Stdio;

use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

use crate::{Node, PATIENCE};

const PYTHON: &str = "../.tools/matrix/bin/python";
const NODE: &str = "matrix/node_modules/.bin/node";

/// The password of every account.
pub const PASSWORD: &str = "correct horse battery staple";

/// A process that speaks JSON lines.
struct Talker {
    child: Child,
    stdin: ChildStdin,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Talker {
    fn start(mut command: Command) -> Self {
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true).spawn().expect("run `make tools`");
        let (stdin, stdout) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        Self { child, stdin, lines: BufReader::new(stdout).lines() }
    }

    async fn line(&mut self) -> Value {
        let line = tokio::time::timeout(PATIENCE, self.lines.next_line()).await.expect("it says something");
        let line = line.unwrap().expect("it runs");
        serde_json::from_str(&line).unwrap_or_else(|_| panic!("not JSON: {line}"))
    }
}

/// A homeserver of its own.
pub struct Homeserver {
    talker: Talker,
    dir: TempDir,
    args: Vec<String>,
    pub url: String,
}

impl Homeserver {
    /// Whether what `make tools` installs is there.
    pub fn can_run() -> bool {
        Path::new(PYTHON).exists() && Path::new(NODE).exists()
    }

    /// With the message limits of Synapse; the people named are free of them.
    pub async fn start(people: &[&str]) -> Self {
        let exempt = people.iter().flat_map(|name| ["--exempt".to_owned(), format!("{name}:{PASSWORD}")]);
        let args = exempt.chain(["--user".to_owned(), format!("timmy:{PASSWORD}")]).collect();
        Self::with(args, TempDir::new().unwrap()).await
    }

    /// Without message limits.
    pub async fn fast(people: &[&str]) -> Self {
        let users =
            people.iter().chain(&["timmy"]).flat_map(|name| ["--user".to_owned(), format!("{name}:{PASSWORD}")]);
        Self::with(users.chain(["--fast".to_owned()]).collect(), TempDir::new().unwrap()).await
    }

    async fn with(args: Vec<String>, dir: TempDir) -> Self {
        assert!(Path::new(PYTHON).exists(), "{PYTHON} is missing: run `make tools`");
        let mut command = Command::new(PYTHON);
        command.arg("matrix/homeserver.py").arg(dir.path()).args(&args);
        let mut talker = Talker::start(command);
        let ready = talker.line().await;
        Self { talker, dir, args, url: ready["url"].as_str().unwrap().to_owned() }
    }

    /// Ends it and starts it anew: the same accounts, rooms and port.
    pub async fn restart(mut self) -> Self {
        drop(self.talker.stdin);
        self.talker.child.wait().await.unwrap();
        Self::with(self.args, self.dir).await
    }

    /// A person with a client of their own.
    pub async fn person(&self, name: &str) -> Person {
        self.person_with(name, json!({})).await
    }

    pub async fn person_with(&self, name: &str, more: Value) -> Person {
        assert!(Path::new(NODE).exists(), "{NODE} is missing: run `make tools`");
        let mut start = json!({ "url": self.url, "user": name, "password": PASSWORD });
        start.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let mut command = Command::new(NODE);
        command.arg("matrix/person.mjs").arg(start.to_string());
        let mut talker = Talker::start(command);
        let ready = talker.line().await;
        assert_eq!(ready["event"], "ready", "{ready}");
        Person { talker, ready, asked: 0, events: Vec::new() }
    }

    /// The configuration of a node whose account is `timmy` and whose owner is `alice`.
    pub fn config(&self, password_file: &Path) -> String {
        std::fs::write(password_file, PASSWORD).unwrap();
        format!(
            "[owner]\nmxid = \"@alice:localhost\"\n[matrix]\nhomeserver = \"{}\"\nuser = \"@timmy:localhost\"\npassword_file = {:?}\n",
            self.url, password_file
        )
    }
}

/// The account of the agent.
pub const TIMMY: &str = "@timmy:localhost";

/// A person with Element's stack.
pub struct Person {
    talker: Talker,
    pub ready: Value,
    asked: u64,
    /// What was heard and not asked for yet.
    events: Vec<Value>,
}

impl Person {
    /// Does something; gives the answer, also a refusal.
    pub async fn ask(&mut self, what: &str, fields: Value) -> Value {
        self.asked += 1;
        let mut command = json!({ "id": self.asked, "do": what });
        command.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        self.talker.stdin.write_all(format!("{command}\n").as_bytes()).await.unwrap();
        loop {
            let line = self.talker.line().await;
            if line["id"] == self.asked {
                return line;
            }
            self.events.push(line);
        }
    }

    /// Does something that must succeed.
    pub async fn does(&mut self, what: &str, fields: Value) -> Value {
        let done = self.ask(what, fields).await;
        assert_eq!(done["ok"], true, "{what}: {done}");
        done
    }

    /// Begins an encrypted chat with the agent.
    pub async fn chat(&mut self) -> String {
        self.does("create_dm", json!({ "user": TIMMY })).await["room"].as_str().unwrap().to_owned()
    }

    /// Says something and gives the event's id.
    pub async fn say(&mut self, room: &str, text: &str) -> String {
        self.does("send", json!({ "room": room, "text": text })).await["event_id"].as_str().unwrap().to_owned()
    }

    /// Waits for an event that fits; those before it stay for later calls.
    pub async fn hears(&mut self, what: &str, fits: impl Fn(&Value) -> bool) -> Value {
        if let Some(at) = self.events.iter().position(&fits) {
            return self.events.remove(at);
        }
        let deadline = tokio::time::Instant::now() + PATIENCE;
        loop {
            let line = tokio::time::timeout_at(deadline, self.talker.lines.next_line()).await;
            let line = line.unwrap_or_else(|_| panic!("never heard: {what}; but {:#?}", self.events));
            let event: Value = serde_json::from_str(&line.unwrap().expect("the client runs")).unwrap();
            if fits(&event) {
                return event;
            }
            self.events.push(event);
        }
    }

    /// Waits for an answer of the agent to a message of theirs, whole: its edits applied.
    pub async fn answer(&mut self, to: &str) -> Value {
        self.hears("an answer", |event| is_answer(event) && event["reply_to"] == to).await
    }

    /// Reads the timeline.
    pub async fn messages(&mut self, room: &str) -> Vec<Value> {
        self.does("messages", json!({ "room": room })).await["messages"].as_array().unwrap().clone()
    }
}

/// True for a message of the agent that was readable, encrypted, and bears no shield.
pub fn is_answer(event: &Value) -> bool {
    (event["event"] == "message" || event["event"] == "decrypted")
        && event["sender"] == TIMMY
        && event["failed"] != true
        && event["encrypted"] == true
        && event["shield"] == "NONE"
}

/// Waits until the node's Matrix door is open and signed.
pub async fn is_open(node: &Node) -> Value {
    crate::eventually("the Matrix door", async || {
        let (code, out, _) = node.cli(&["matrix", "status", "--json"]).await;
        let status: Value = serde_json::from_str(&out).ok()?;
        (code == 0 && status["connected"] == true && status["cross_signed"] == true).then_some(status)
    })
    .await
}
