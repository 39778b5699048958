//! Jobs of this node that its sisters do: each is a task of the federation, named after the job, so that a restart finds it again.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

use federation::TaskEnd;
use federation::tasks::Lapse;
use nips::job::JobId;
use nips::task::TaskId;
use nostr::{Keys, PublicKey};
use sha2::{Digest, Sha256};
use tokio::sync::{mpsc, watch};

/// Tasks that wait to be settled: more than a node can have open. One that finds no room is settled at the next start.
pub const UNWANTED: usize = 512;

/// How an errand went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Errand {
    /// What came out, and who made it.
    Done {
        /// It.
        output: String,
        /// Passport of the worker.
        executed_by: PublicKey,
    },
    /// Why there is nothing. For the customer.
    Failed(String),
}

#[derive(Default)]
struct Inner {
    ended: BTreeMap<TaskId, Errand>,
    /// The tasks that somebody here still wants; none before the desk has said which.
    wanted: Option<BTreeSet<TaskId>>,
}

/// Errands that are over and wait for whoever sent them. Clones share them.
#[derive(Clone)]
pub struct Errands {
    secret: Arc<zeroize::Zeroizing<[u8; 32]>>,
    inner: Arc<Mutex<Inner>>,
    changed: watch::Sender<u64>,
    /// Tasks that nobody here wants: the federation may forget them.
    unwanted: mpsc::Sender<TaskId>,
}

impl Errands {
    /// None yet. What is sent to `unwanted` is to be settled.
    pub fn new(install: &Keys, unwanted: mpsc::Sender<TaskId>) -> Self {
        let secret =
            Sha256::new().chain_update("timmy/errand").chain_update(install.secret_key().as_secret_bytes()).finalize();
        let (changed, _) = watch::channel(0);
        Self { secret: Arc::new(zeroize::Zeroizing::new(secret.into())), inner: Arc::default(), changed, unwanted }
    }

    /// The task of a job: always the same here, and nothing that others could know.
    pub fn task(&self, job: &JobId) -> TaskId {
        let hash = Sha256::new().chain_update(self.secret.as_slice()).chain_update(job.as_bytes()).finalize();
        TaskId::from_bytes(hash.into())
    }

    fn inner(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// These jobs are open; tasks of others are nobody's any more.
    pub fn open(&self, jobs: impl Iterator<Item = JobId>) {
        let wanted: BTreeSet<TaskId> = jobs.map(|job| self.task(&job)).collect();
        let mut inner = self.inner();
        let gone: Vec<TaskId> = inner.ended.keys().filter(|task| !wanted.contains(task)).copied().collect();
        for task in gone {
            inner.ended.remove(&task);
            let _ = self.unwanted.try_send(task);
        }
        inner.wanted = Some(wanted);
    }

    /// Somebody waits for this task.
    pub fn want(&self, task: TaskId) {
        if let Some(wanted) = &mut self.inner().wanted {
            wanted.insert(task);
        }
    }

    /// Nobody waits any more: what it became is written down, or was taken back.
    pub fn forget(&self, task: &TaskId) {
        let mut inner = self.inner();
        inner.ended.remove(task);
        if let Some(wanted) = &mut inner.wanted {
            wanted.remove(task);
        }
    }

    /// The federation says how a task ended.
    pub fn ended(&self, end: TaskEnd) {
        let (task, errand) = match end {
            TaskEnd::Done(done) => (done.task, Errand::Done { output: done.output, executed_by: done.executed_by }),
            TaskEnd::Lapsed(task, why) => (task, Errand::Failed(words(&why))),
        };
        let mut inner = self.inner();
        if inner.wanted.as_ref().is_some_and(|wanted| !wanted.contains(&task)) {
            let _ = self.unwanted.try_send(task);
            return;
        }
        inner.ended.insert(task, errand);
        self.changed.send_modify(|count| *count += 1);
    }

    /// How the task went, as soon as it is over.
    pub async fn end_of(&self, task: TaskId) -> Errand {
        let mut changed = self.changed.subscribe();
        loop {
            if let Some(errand) = self.inner().ended.get(&task) {
                return errand.clone();
            }
            // The sender lives as long as this.
            let _ = changed.changed().await;
        }
    }
}

fn words(why: &Lapse) -> String {
    match why {
        Lapse::NoBidder => "no sister node can do it now; try again later".to_owned(),
        Lapse::Attempts { word } if word.is_empty() => "several sister nodes had it and none delivered".to_owned(),
        Lapse::Attempts { word } => {
            format!("several sister nodes had it and none delivered; the last one said: {word}")
        }
        Lapse::OwnFailure { word } => word.clone(),
        Lapse::Expired => "its time was over".to_owned(),
        Lapse::Cancelled => "it was taken back".to_owned(),
        Lapse::Full => "too much is with the sister nodes already; try again later".to_owned(),
        Lapse::TooLarge => "the input is too large for the sister nodes".to_owned(),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn errands() -> (Errands, mpsc::Receiver<TaskId>) {
        let (unwanted, settled) = mpsc::channel(UNWANTED);
        (Errands::new(&Keys::generate(), unwanted), settled)
    }

    fn other() -> Errands {
        errands().0
    }

    fn job(n: u8) -> JobId {
        JobId::from_bytes([n; 32])
    }

    #[tokio::test]
    async fn an_end_that_comes_before_its_job_is_asked_for_waits_for_it() {
        let (errands, mut settled) = errands();
        let (known, gone) = (errands.task(&job(1)), errands.task(&job(2)));
        errands.ended(TaskEnd::Lapsed(known, Lapse::NoBidder));
        errands.ended(TaskEnd::Lapsed(gone, Lapse::Expired));
        errands.open([job(1)].into_iter());
        assert_eq!(settled.try_recv().unwrap(), gone, "its job is not there any more");
        assert!(matches!(errands.end_of(known).await, Errand::Failed(why) if why.contains("no sister")));
        errands.forget(&known);
        errands.ended(TaskEnd::Lapsed(known, Lapse::Cancelled));
        assert_eq!(settled.try_recv().unwrap(), known);
    }

    #[tokio::test]
    async fn whoever_waits_hears_and_the_name_of_a_task_tells_nothing() {
        let (errands, _settled) = errands();
        errands.open(std::iter::empty());
        let task = errands.task(&job(3));
        assert_eq!(task, errands.task(&job(3)));
        assert_ne!(task.to_string(), job(3).to_string());
        assert_ne!(task, other().task(&job(3)), "another install names it otherwise");
        errands.want(task);
        let ends = async {
            tokio::task::yield_now().await;
            errands.ended(TaskEnd::Lapsed(task, Lapse::Attempts { word: "no disk".to_owned() }));
        };
        let (errand, ()) = tokio::join!(errands.end_of(task), ends);
        assert!(matches!(errand, Errand::Failed(why) if why.contains("no disk")));
    }
}
