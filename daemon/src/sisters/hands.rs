//! What this node does for its sisters, and for itself when no sister would: tasks that it won, in the workshop, until their leases end.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use bots::WorkError;
use federation::auction::{Ask, Figures};
use federation::tasks::{Execution, WorkId};
use federation::{BootClock, Federation};
use nips::task::AudienceClass;
use nips::{Audience, Msat};
use nostr::PublicKey;
use tokio::sync::{Semaphore, SetOnce, mpsc, watch};
use tokio_util::sync::CancellationToken;

use super::pace::Pace;
use super::payload::Payload;
use crate::desk::{Rules, Tools};

/// Everything that wants to be done at once is this often longer than the slots before the node bids no more.
const QUEUE_PER_SLOT: u32 = 16;
/// The longest that one task may take.
const WORK_MAX: Duration = Duration::from_secs(600);

/// Who works, once the node is wired up.
pub struct Staff {
    /// The tools hold the sisters, who hold this: it must not keep them alive.
    tools: Weak<Tools>,
    federation: Federation,
    rules: Rules,
    slots: Arc<Semaphore>,
}

struct Run {
    cancel: CancellationToken,
    fence: watch::Sender<Option<u64>>,
}

/// The workers as the federation sees them. Clones share them.
#[derive(Clone)]
pub struct Hands(Arc<Inner>);

struct Inner {
    staff: SetOnce<Staff>,
    runs: Mutex<BTreeMap<WorkId, Run>>,
    pace: Pace,
    clock: BootClock,
    cancel: CancellationToken,
}

impl Hands {
    /// Nobody works yet.
    pub fn new(pace: Pace, cancel: CancellationToken) -> Self {
        let clock = BootClock::default();
        Self(Arc::new(Inner { staff: SetOnce::new(), runs: Mutex::default(), pace, clock, cancel }))
    }

    /// From now on there is somebody to work.
    pub fn employ(&self, tools: &Arc<Tools>, federation: Federation, rules: Rules) {
        let slots = Arc::new(Semaphore::new(rules.max_running.max(1)));
        // The node is wired up once.
        let _ = self.0.staff.set(Staff { tools: Arc::downgrade(tools), federation, rules, slots });
    }

    /// What this node knows about itself and such a task; none when it cannot or may not do it.
    pub fn figures(&self, ask: &Ask) -> Option<Figures> {
        let staff = self.0.staff.get()?;
        let (tools, kind) = (staff.tools.upgrade()?, ask.ability.kind());
        let may = tools.jobs_enabled
            && !tools.passport.is_superseded()
            && tools.room.load(std::sync::atomic::Ordering::Relaxed)
            && (staff.rules.kinds.is_empty() || staff.rules.kinds.contains(&kind));
        let audience = representative(ask.audience, ask.requester);
        if !may || !tools.workshop.kinds_for(audience).contains(&kind) {
            return None;
        }
        let slots = u32::try_from(staff.rules.max_running).unwrap_or(u32::MAX).max(1);
        let queued = self.0.pace.queued();
        if queued >= slots.saturating_mul(QUEUE_PER_SLOT) {
            return None;
        }
        Some(Figures { queued, slots, typical_ms: self.0.pace.typical_ms(kind), cost: Msat(0) })
    }

    fn runs(&self) -> std::sync::MutexGuard<'_, BTreeMap<WorkId, Run>> {
        self.0.runs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets a worker begin as soon as one is free.
    pub fn execute(&self, execution: Execution, tracker: &tokio_util::task::TaskTracker) {
        let cancel = self.0.cancel.child_token();
        let (fence, fenced) = watch::channel(execution.fence_ms);
        let work = execution.work;
        let mut runs = self.runs();
        if runs.contains_key(&work) {
            return;
        }
        runs.insert(work, Run { cancel: cancel.clone(), fence });
        self.0.pace.set_hands(runs.len());
        drop(runs);
        let hands = self.clone();
        tracker.spawn(async move {
            let staff = tokio::select! {
                () = cancel.cancelled() => return hands.over(&work),
                staff = hands.0.staff.wait() => staff,
            };
            let done = tokio::select! {
                biased;
                () = cancel.cancelled() => None,
                () = hands.at_the_fence(fenced) => None,
                done = staff.work(execution, &cancel, &hands.0.pace) => Some(done),
            };
            cancel.cancel();
            hands.over(&work);
            if let Some(done) = done {
                staff.federation.worked(work, done).await;
            }
        });
    }

    fn over(&self, work: &WorkId) {
        let mut runs = self.runs();
        runs.remove(work);
        self.0.pace.set_hands(runs.len());
    }

    /// Resolves when the lease has ended without having been extended.
    async fn at_the_fence(&self, mut fenced: watch::Receiver<Option<u64>>) {
        loop {
            let fence = *fenced.borrow_and_update();
            let Some(fence_ms) = fence else { return std::future::pending().await };
            let left = fence_ms.saturating_sub(self.0.clock.now_ms());
            if left == 0 {
                return;
            }
            // Looked at often: a machine that slept must not think that no time has passed.
            tokio::time::sleep(Duration::from_millis(left.min(500))).await;
        }
    }

    /// The lease was renewed.
    pub fn extend(&self, work: &WorkId, fence_ms: u64) {
        if let Some(run) = self.runs().get(work) {
            run.fence.send_replace(Some(fence_ms));
        }
    }

    /// An auction of this node ended with an award.
    pub fn auctioned(&self, took: Duration) {
        if let Some(tools) = self.0.staff.get().and_then(|staff| staff.tools.upgrade()) {
            tools.metrics.auctioned(took);
        }
    }

    /// Nobody wants it any more.
    pub fn stop(&self, work: &WorkId) {
        if let Some(run) = self.runs().get(work) {
            run.cancel.cancel();
        }
    }
}

/// Somebody of this class: what a model may serve hangs on the class alone.
fn representative(class: AudienceClass, requester: PublicKey) -> Audience {
    match class {
        AudienceClass::Owner => Audience::Owner,
        AudienceClass::Person => Audience::Person(requester),
        AudienceClass::Member => Audience::Member,
        AudienceClass::Stranger => Audience::Stranger,
    }
}

impl Staff {
    async fn work(&self, execution: Execution, cancel: &CancellationToken, pace: &Pace) -> Result<String, String> {
        let Execution { work, what, .. } = execution;
        let payload = Payload::read(&what.input)?;
        let tools = self.tools.upgrade().ok_or("the node is shutting down")?;
        // Conscience first: before any worker or model, whatever the door (DESIGN §7).
        if let Some(crisis) = tools.conscience.check(&payload.words()) {
            tools.metrics.crisis();
            return Ok(crisis.answer(tools.country.as_deref(), None));
        }
        let kind = what.ability.kind();
        let task = payload.task(work.attempt.task.to_string(), kind, what.audience);
        let _slot = self.slots.acquire().await.map_err(|e| e.to_string())?;
        let (progress, mut parts) = mpsc::channel(1);
        let drain = async { while parts.recv().await.is_some() {} };
        let timer = tools.metrics.start_task();
        let began = Instant::now();
        let run = tokio::time::timeout(WORK_MAX, tools.workshop.run(&task, &progress, cancel));
        let done = tokio::select! {
            done = run => done,
            () = drain => Ok(Err(WorkError::Cancelled)),
        };
        match done {
            Ok(Ok(output)) => {
                timer.done("ok");
                pace.took(kind, began.elapsed());
                Ok(output.content)
            }
            Ok(Err(error)) => {
                timer.done("failed");
                Err(error.to_string())
            }
            Err(_) => {
                timer.done("failed");
                Err("it took longer than ten minutes".to_owned())
            }
        }
    }
}
