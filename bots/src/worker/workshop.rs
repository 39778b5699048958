//! The workshop: which kinds can be done now, is a task sound, and who does it.

use std::collections::BTreeSet;
use std::sync::Arc;

use nips::Audience;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::extract::{ExtractWorker, Reader};
use super::generate::GenerateWorker;
use super::search::{self, SearchWorker};
use super::summary::SummaryWorker;
use super::{
    INPUTS_MAX, KIND_EXTRACT, KIND_GENERATE, KIND_SEARCH_NOTES, KIND_SEARCH_PEOPLE, KIND_SUMMARY, KIND_TRANSLATE,
    Library, Output, Task, TaskInput, WorkError, Worker,
};
use crate::conscience::Conscience;
use crate::fetch::Fetcher;
use crate::model::{Chain, Clock};

/// All workers of a node.
pub struct Workshop {
    chain: Arc<Chain>,
    conscience: Conscience,
    reader: Reader,
    extract: ExtractWorker,
    summary: SummaryWorker,
    generate: GenerateWorker,
    search: SearchWorker,
}

impl Workshop {
    /// Furnishes the workshop. `clock` tells the search what "days in the past" means.
    pub fn new(
        chain: Arc<Chain>,
        fetcher: Fetcher,
        library: Arc<dyn Library>,
        conscience: Conscience,
        clock: Arc<dyn Clock>,
    ) -> Self {
        let reader = Reader::new(fetcher);
        Self {
            conscience,
            extract: ExtractWorker { reader: reader.clone() },
            summary: SummaryWorker { chain: Arc::clone(&chain), reader: reader.clone() },
            generate: GenerateWorker { chain: Arc::clone(&chain), reader: reader.clone() },
            search: SearchWorker { library, clock },
            reader,
            chain,
        }
    }

    /// The kinds that this node can do for strangers now: what its offer names. Follows the health of the models.
    pub fn offered_kinds(&self) -> BTreeSet<u16> {
        self.kinds_for(Audience::Stranger)
    }

    /// The kinds that this node can do for `audience` now.
    pub fn kinds_for(&self, audience: Audience) -> BTreeSet<u16> {
        let mut kinds = BTreeSet::from([KIND_EXTRACT, KIND_SUMMARY, KIND_SEARCH_NOTES, KIND_SEARCH_PEOPLE]);
        if self.chain.can_serve(audience) {
            kinds.extend([KIND_TRANSLATE, KIND_GENERATE]);
        }
        kinds
    }

    /// Judges a task quickly, before it is queued. The error is meant for the customer and says what to change.
    pub fn validate(&self, task: &Task) -> Result<(), String> {
        if self.worker(task.kind).is_none() {
            return Err(format!("kind {} is not done here", task.kind));
        }
        if task.inputs.len() > INPUTS_MAX {
            return Err(format!("too many inputs: at most {INPUTS_MAX} are taken"));
        }
        for input in &task.inputs {
            if let TaskInput::Url(url) = input {
                self.reader.fetcher().check(url).map_err(|e| format!("{url}: {e}"))?;
            }
        }
        if matches!(task.kind, KIND_SEARCH_NOTES | KIND_SEARCH_PEOPLE) {
            return search::validate(task);
        }
        let some = task.inputs.iter().any(|i| i.text().is_none_or(|t| !t.trim().is_empty()));
        if some {
            Ok(())
        } else {
            Err("nothing to work on: add an `i` tag with a text, a url, an event or a job".to_owned())
        }
    }

    /// Carries out a task; see [`Worker::run`]. Never panics on what a customer sends.
    pub async fn run(
        &self,
        task: &Task,
        progress: &mpsc::Sender<String>,
        cancel: &CancellationToken,
    ) -> Result<Output, WorkError> {
        self.validate(task).map_err(WorkError::BadInput)?;
        if let Some(answer) = self.second_wall(task) {
            return Ok(Output::plain(answer));
        }
        let Some(worker) = self.worker(task.kind) else {
            return Err(WorkError::BadInput(format!("kind {} is not done here", task.kind)));
        };
        worker.run(task, progress, cancel).await
    }

    /// The conscience once more, for the kinds that a model writes for: the answer to a person in a crisis, if it is one.
    fn second_wall(&self, task: &Task) -> Option<String> {
        if !matches!(task.kind, KIND_SUMMARY | KIND_TRANSLATE | KIND_GENERATE) {
            return None;
        }
        let texts =
            task.inputs.iter().filter_map(TaskInput::text).chain(task.params.iter().map(|(_, value)| value.as_str()));
        let all = texts.collect::<Vec<_>>().join("\n");
        self.conscience.check(&all).map(|crisis| crisis.answer(None, None))
    }

    /// The worker for `kind`, if there is one.
    pub fn worker(&self, kind: u16) -> Option<&dyn Worker> {
        match kind {
            KIND_EXTRACT => Some(&self.extract),
            KIND_SUMMARY => Some(&self.summary),
            KIND_TRANSLATE | KIND_GENERATE => Some(&self.generate),
            KIND_SEARCH_NOTES | KIND_SEARCH_PEOPLE => Some(&self.search),
            _ => None,
        }
    }

    /// The readable text of a page, for a talk; see kind 5000.
    pub async fn read_url(&self, url: &str, cancel: &CancellationToken) -> Result<String, WorkError> {
        self.reader.read_url(url, false, cancel).await
    }

    /// A file at an address that somebody named, by the same guard as pages.
    ///
    /// # Errors
    /// Why it cannot be had, in words.
    pub async fn download(&self, url: &str, bytes_max: usize) -> Result<Vec<u8>, String> {
        self.reader.fetcher().get_bytes(url, bytes_max).await.map_err(|error| error.to_string())
    }

    /// The model chain.
    pub fn chain(&self) -> &Chain {
        &self.chain
    }
}
