//! Other engines on the same vectors, asked the same, in this run (`tests/peers/vectors.py`).

use std::path::{Path, PathBuf};
use std::process::Command;

use memory::{Embedder, StaticEmbedder};
use serde_json::{Value, json};

/// The script, beside this crate's manifest.
const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/peers/vectors.py");
/// Texts embedded together.
const BATCH: usize = 1_000;

/// In this order: numpy says what is right.
pub const ENGINES: [(&str, &str); 4] = [
    ("numpy", "numpy: every row multiplied, f32, in memory"),
    ("sqlite-vec", "sqlite-vec: every row, f32, on disk"),
    ("usearch", "usearch: HNSW, f32, in memory"),
    ("usearch-wide", "the same, searched wider (`expansion_search` 256)"),
];

/// The interpreter that has the engines.
pub fn python() -> Option<PathBuf> {
    crate::process::program("PEERS_PYTHON")
}

/// Writes the vectors of texts and questions where the script reads them.
pub async fn write(dir: &Path, texts: &[String], questions: &[String]) {
    std::fs::create_dir_all(dir).unwrap();
    let embedder = StaticEmbedder::new();
    for (name, texts) in [("rows.f32", texts), ("questions.f32", questions)] {
        let mut bytes = Vec::new();
        for batch in texts.chunks(BATCH) {
            let vectors = embedder.embed(batch).await.unwrap();
            bytes.extend(vectors.iter().flatten().flat_map(|number| number.to_le_bytes()));
        }
        std::fs::write(dir.join(name), bytes).unwrap();
    }
    let shape = json!({ "rows": texts.len(), "questions": questions.len(), "dimensions": embedder.dimensions() });
    std::fs::write(dir.join("shape.json"), shape.to_string()).unwrap();
}

/// Asks one engine; none when it does not run here, with its words.
pub fn ask(python: &Path, engine: &str, dir: &Path) -> Result<Value, String> {
    let output = Command::new(python).args(["-B", SCRIPT, engine]).arg(dir).output().map_err(|e| e.to_string())?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        return Err(said.lines().last().unwrap_or_default().to_owned());
    }
    serde_json::from_slice(&output.stdout).map_err(|e| e.to_string())
}

/// The exact answers: the numbers of the nearest texts, for each question.
pub fn exact(dir: &Path) -> Vec<Vec<usize>> {
    serde_json::from_slice(&std::fs::read(dir.join("exact.json")).unwrap()).unwrap()
}
