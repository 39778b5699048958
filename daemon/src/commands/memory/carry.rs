//! `timmy memory import` and `export`

use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions};
use std::io::{BufRead, BufReader, BufWriter, IsTerminal, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::UNIX_EPOCH;

use anyhow::{Context as _, Result, bail};
use memory::MAX_TAG;
use memory::transfer::{MAX_LINE, PlainEntry, pieces};
use nips::memory::Space;
use serde::Deserialize;
use serde_json::json;

use crate::cli::Context;
use crate::http::Client;

/// Lines that go to the node at once.
const BATCH_LINES: usize = 500;
/// Bytes that go to the node at once; one line may go over it.
const BATCH_BYTES: usize = MAX_LINE;
/// The largest Markdown file.
const MAX_MARKDOWN: u64 = 16 * 1024 * 1024;
/// Folders inside each other.
const MAX_DEPTH: usize = 32;

/// What the node says of a batch.
#[derive(Deserialize)]
struct Taken {
    added: u64,
    known: u64,
    forgotten: u64,
    bad: u64,
    named: Vec<(usize, String)>,
}

/// A bad line: where it stands, and why.
struct Bad {
    place: String,
    why: String,
}

/// Gathers lines and sends them.
struct Carrier<'a> {
    client: &'a Client,
    path: String,
    shows: bool,
    batch: Vec<u8>,
    /// Where each line of the batch stands.
    places: Vec<String>,
    lines: u64,
    added: u64,
    known: u64,
    forgotten: u64,
    bad: u64,
    first: Option<Bad>,
}

impl<'a> Carrier<'a> {
    fn new(context: &Context, client: &'a Client, space: &Space) -> Self {
        Self {
            client,
            path: format!("/memory/import?space={space}"),
            shows: std::io::stderr().is_terminal() && !context.json,
            batch: Vec::new(),
            places: Vec::new(),
            lines: 0,
            added: 0,
            known: 0,
            forgotten: 0,
            bad: 0,
            first: None,
        }
    }

    async fn line(&mut self, place: String, line: &[u8]) -> Result<()> {
        self.batch.extend_from_slice(line);
        self.batch.push(b'\n');
        self.places.push(place);
        if self.places.len() >= BATCH_LINES || self.batch.len() >= BATCH_BYTES {
            self.send().await?;
        }
        Ok(())
    }

    fn bad(&mut self, place: String, why: String) {
        self.bad += 1;
        self.first.get_or_insert(Bad { place, why });
    }

    async fn send(&mut self) -> Result<()> {
        if self.places.is_empty() {
            return Ok(());
        }
        let places = std::mem::take(&mut self.places);
        let taken: Taken = self.client.send(&self.path, std::mem::take(&mut self.batch)).await?;
        self.lines += places.len() as u64;
        self.added += taken.added;
        self.known += taken.known;
        self.forgotten += taken.forgotten;
        if let Some((at, why)) = taken.named.into_iter().next() {
            self.first.get_or_insert(Bad { place: places.get(at).cloned().unwrap_or_default(), why });
        }
        self.bad += taken.bad;
        if self.shows {
            let _ = write!(std::io::stderr(), "\r{} lines, {} new", self.lines, self.added);
        }
        Ok(())
    }

    fn report(self, context: &Context) -> Result<ExitCode> {
        if self.shows {
            let _ = writeln!(std::io::stderr());
        }
        let first = self.first.as_ref().map(|b| json!({ "at": b.place, "why": b.why }));
        let value = json!({
            "added": self.added,
            "known": self.known,
            "forgotten": self.forgotten,
            "bad": self.bad,
            "first_bad": first,
        });
        context.print(&value, || {
            let forgotten = match self.forgotten {
                0 => String::new(),
                n => format!(", {n} were forgotten earlier and are not taken again"),
            };
            format!("{} new, {} there before{forgotten}, {} not taken\n", self.added, self.known, self.bad)
        })?;
        if let Some(bad) = &self.first {
            writeln!(std::io::stderr(), "timmy: the first that was not taken is {}: {}", bad.place, bad.why)?;
        }
        Ok(if self.bad == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}

/// Takes in a file, a folder or standard input. What is bad is counted, the rest is taken; doing it again adds nothing.
pub(super) async fn import(context: &Context, client: &Client, from: &Path, space: &Space) -> Result<ExitCode> {
    let mut carrier = Carrier::new(context, client, space);
    if from == Path::new("-") {
        lines(&mut carrier, "line", std::io::stdin().lock()).await?;
    } else if from.is_dir() {
        let root = from.canonicalize().with_context(|| format!("cannot read {}", from.display()))?;
        for file in markdown_files(&root)? {
            markdown(&mut carrier, &file).await?;
        }
    } else if is_markdown(from) {
        markdown(&mut carrier, from).await?;
    } else {
        let file = File::open(from).with_context(|| format!("cannot read {}", from.display()))?;
        lines(&mut carrier, "line", BufReader::new(file)).await?;
    }
    carrier.send().await?;
    carrier.report(context)
}

/// Each line, at most one of the longest in memory at a time.
async fn lines(carrier: &mut Carrier<'_>, name: &str, mut input: impl BufRead) -> Result<()> {
    let mut line = Vec::new();
    for number in 1_u64.. {
        line.clear();
        let most = MAX_LINE as u64 + 2;
        let read = input.by_ref().take(most).read_until(b'\n', &mut line).context("cannot read the import")?;
        if read == 0 {
            return Ok(());
        }
        let is_whole = line.ends_with(b"\n");
        let bare = line.strip_suffix(b"\n").unwrap_or(&line);
        if bare.len() > MAX_LINE {
            carrier.bad(format!("{name} {number}"), format!("it has more than {MAX_LINE} bytes"));
            if !is_whole {
                input.skip_until(b'\n').context("cannot read the import")?;
            }
        } else if !bare.iter().all(u8::is_ascii_whitespace) {
            carrier.line(format!("{name} {number}"), bare).await?;
        }
    }
    Ok(())
}

fn is_markdown(path: &Path) -> bool {
    let extension = path.extension().and_then(|e| e.to_str()).unwrap_or_default();
    ["md", "markdown"].iter().any(|known| extension.eq_ignore_ascii_case(known))
}

/// Markdown files of a folder and those below it, in order; hidden ones and links are left out.
fn markdown_files(root: &Path) -> Result<Vec<PathBuf>> {
    let mut found = BTreeSet::new();
    let mut folders = vec![(root.to_owned(), 0)];
    while let Some((folder, depth)) = folders.pop() {
        let entries = fs::read_dir(&folder).with_context(|| format!("cannot read {}", folder.display()))?;
        for entry in entries {
            let entry = entry?;
            let kind = entry.file_type()?;
            let path = entry.path();
            if entry.file_name().as_encoded_bytes().starts_with(b".") {
                continue;
            }
            if kind.is_dir() && depth < MAX_DEPTH {
                folders.push((path, depth + 1));
            } else if kind.is_file() && is_markdown(&path) {
                found.insert(path);
            }
        }
    }
    if found.is_empty() {
        bail!("there are no Markdown files in {}", root.display());
    }
    Ok(found.into_iter().collect())
}

async fn markdown(carrier: &mut Carrier<'_>, path: &Path) -> Result<()> {
    let shown = path.display().to_string();
    let data = fs::metadata(path).with_context(|| format!("cannot read {shown}"))?;
    if data.len() > MAX_MARKDOWN {
        carrier.bad(shown, format!("it has more than {MAX_MARKDOWN} bytes"));
        return Ok(());
    }
    let bytes = fs::read(path).with_context(|| format!("cannot read {shown}"))?;
    let Ok(text) = String::from_utf8(bytes) else {
        carrier.bad(shown, "it is not UTF-8 text".to_owned());
        return Ok(());
    };
    let written = data.modified().ok().and_then(|at| at.duration_since(UNIX_EPOCH).ok()).map(|at| at.as_secs());
    let tags: BTreeSet<String> = tag(path).into_iter().collect();
    for (number, text) in pieces(&text).into_iter().enumerate() {
        let entry = PlainEntry { text, tags: tags.clone(), created_at: written, ..PlainEntry::default() };
        carrier.line(format!("{shown}, piece {}", number + 1), serde_json::to_string(&entry)?.as_bytes()).await?;
    }
    Ok(())
}

/// The file's stem, as much of it as a tag may have.
fn tag(path: &Path) -> Option<String> {
    let stem = path.file_stem()?.to_str()?.trim();
    let end = (0..=MAX_TAG.min(stem.len())).rev().find(|at| stem.is_char_boundary(*at))?;
    Some(stem[..end].to_owned()).filter(|tag| !tag.is_empty())
}

/// Writes everything to a new file, or to standard output.
pub(super) async fn export(context: &Context, client: &Client, to: Option<&Path>, space: Option<&Space>) -> Result<()> {
    let path = space.map_or_else(|| "/memory/export".to_owned(), |space| format!("/memory/export?space={space}"));
    let mut count = 0_u64;
    let Some(file) = to else {
        let mut out = BufWriter::new(std::io::stdout().lock());
        client.lines(&path, |line| Ok(out.write_all(line).and_then(|()| out.write_all(b"\n"))?)).await?;
        return Ok(out.flush()?);
    };
    let opened = OpenOptions::new().write(true).create_new(true).mode(0o600).open(file);
    let opened =
        opened.with_context(|| format!("cannot write {}; choose a name that does not exist yet", file.display()))?;
    let mut out = BufWriter::new(opened);
    let written = client.lines(&path, |line| {
        count += 1;
        Ok(out.write_all(line).and_then(|()| out.write_all(b"\n"))?)
    });
    let written = written.await.and_then(|()| Ok(out.flush().and_then(|()| out.get_ref().sync_all())?));
    if let Err(error) = written {
        let _ = fs::remove_file(file);
        return Err(error);
    }
    context.print(&json!({ "file": file, "lines": count }), || format!("wrote {} ({count} lines)\n", file.display()))
}
