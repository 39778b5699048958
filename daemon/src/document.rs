//! Documents of people, read in a process of their own: this program again, with limits on its memory, its time and what it may open.
//!
//! A PDF is a small program, and its readers recurse, panic and fill the memory when somebody wants them to. What dies of it is the
//! child, and the person hears that the file could not be read.

use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{ExitCode, Stdio};
use std::time::Duration;

use bots::document::{self, DocumentKind};
use bots::files::{FILE_BYTES_MAX, FileError, shortened};
use rustix::process::{Resource, Rlimit, setrlimit};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::Command;
use tokio::sync::Semaphore;

/// The hidden command that reads one document from its standard input.
pub(crate) const COMMAND: &str = "read-document";
/// How long one document may take, seconds of the processor's time and of the clock's.
const CPU_SECONDS: u64 = 20;
const PATIENCE: Duration = Duration::from_secs(60);
/// The address space of the reader, bytes: the program itself, the file, and what becomes of it.
const MEMORY: u64 = 1024 * 1024 * 1024;
/// The most that the reader says, bytes.
const SAID_MAX: u64 = 1024 * 1024;

/// So many documents at a time.
static READERS: Semaphore = Semaphore::const_new(1);

/// The text of a document, shortened as every file's is. Dropping the future ends the reader.
///
/// # Errors
/// In words for the person.
pub(crate) async fn read(bytes: Vec<u8>, kind: DocumentKind) -> Result<String, FileError> {
    let _turn = READERS.acquire().await;
    let gave_up = |why: &str| FileError::Unread(format!("this {} {why}", kind.name()));
    let said = match tokio::time::timeout(PATIENCE, ask_reader(bytes)).await {
        Ok(Ok(said)) => said,
        Ok(Err(error)) => {
            tracing::warn!(%error, "the reader of documents cannot be started");
            return Err(FileError::Unread("the program that reads documents does not start here".to_owned()));
        }
        Err(_) => return Err(gave_up("takes longer to read than I give to a file")),
    };
    match serde_json::from_slice::<Result<String, String>>(&said) {
        Ok(Ok(text)) => shortened(&text),
        Ok(Err(why)) => Err(FileError::Unread(why)),
        Err(_) => Err(gave_up("is more than I can take in: its reader gave up")),
    }
}

async fn ask_reader(bytes: Vec<u8>) -> std::io::Result<Vec<u8>> {
    let mut reader = Command::new(own_program()?)
        .arg(COMMAND)
        .env_clear()
        .current_dir("/")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()?;
    let (mut to, from) = (reader.stdin.take(), reader.stdout.take());
    let give = async {
        if let Some(mut to) = to.take() {
            // A reader that has died closes the pipe; what it said tells more.
            let _ = to.write_all(&bytes).await;
        }
    };
    let mut said = Vec::new();
    let take = async {
        match from {
            Some(from) => from.take(SAID_MAX).read_to_end(&mut said).await.map(drop),
            None => Ok(()),
        }
    };
    let ((), taken) = tokio::join!(give, take);
    taken?;
    reader.wait().await?;
    Ok(said)
}

/// This program, also after its file was replaced by a newer one.
fn own_program() -> std::io::Result<PathBuf> {
    let running = Path::new("/proc/self/exe");
    if running.exists() { Ok(running.to_owned()) } else { std::env::current_exe() }
}

/// What the child does: limits itself, reads the document, says its text or what is wrong with it as JSON.
pub(crate) fn serve() -> ExitCode {
    limit_self();
    let mut bytes = Vec::new();
    let taken = std::io::stdin().lock().take(FILE_BYTES_MAX as u64).read_to_end(&mut bytes);
    let Some(kind) = taken.ok().and_then(|_| DocumentKind::of(&bytes)) else { return ExitCode::from(2) };
    let said = document::text(&bytes, kind).map_err(|error| error.to_string());
    let Ok(said) = serde_json::to_vec(&said) else { return ExitCode::FAILURE };
    match std::io::stdout().lock().write_all(&said) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

/// Where the system knows no such limit, the node's own patience is what is left.
fn limit_self() {
    let limits = [
        (Resource::As, MEMORY),
        (Resource::Cpu, CPU_SECONDS),
        (Resource::Fsize, 0),
        (Resource::Core, 0),
        (Resource::Nofile, 3),
    ];
    for (resource, most) in limits {
        let _ = setrlimit(resource, Rlimit { current: Some(most), maximum: Some(most) });
    }
}
