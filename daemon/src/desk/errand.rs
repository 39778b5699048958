//! Which jobs the sister nodes do: what this node cannot do itself, what somebody wants of another node, and what would wait here for long.

use federation::tasks::{Reach, Submission};
use nips::Audience;
use nips::job::JobId;
use nips::task::{Ability, TaskId};

use super::Desk;
use super::order::{Order, Work};

/// Jobs that wait here, for each worker, before sister nodes are asked to take some.
const LONG_QUEUE: usize = 4;

impl Desk {
    /// True for a job that goes to the sister nodes. Decided once, when it is queued.
    pub(super) fn is_errand(&self, id: JobId) -> bool {
        let Some(live) = self.live.get(&id) else { return false };
        let order = &live.order;
        let (Some(sisters), Work::Job { kind, .. }) = (&self.tools.sisters, &order.work) else { return false };
        if let Some(on) = order.on {
            return on != self.tools.speaker.node;
        }
        if live.is_out {
            return true;
        }
        if !self.can_here(*kind, order.audience) {
            // Just after a start nobody is there yet, and may have it all the same.
            return !sisters.view().members().is_empty();
        }
        let is_long = self.waiting.fresh() >= self.rules.max_running * LONG_QUEUE;
        is_long && !order.is_broadcast() && self.can_elsewhere(*kind, order.audience)
    }

    /// True when this node's own workers can do it.
    pub(super) fn can_here(&self, kind: u16, audience: Audience) -> bool {
        self.tools.workshop.kinds_for(audience).contains(&kind)
    }

    /// True when a living sister node can do it, as its card says.
    pub(super) fn can_elsewhere(&self, kind: u16, audience: Audience) -> bool {
        let sisters = self.tools.sisters.as_ref();
        sisters.is_some_and(|sisters| !sisters.view().able(kind, audience.into()).is_empty())
    }
}

/// What the sister nodes are asked to do.
pub(super) fn submission(task: TaskId, order: &Order, kind: u16, input: String, may_self: bool) -> Option<Submission> {
    Some(Submission {
        task,
        ability: Ability::of_kind(kind)?,
        audience: order.audience,
        input,
        // A guest may see what a stranger asked of everybody, and nothing else.
        guests: order.audience == Audience::Stranger && !order.is_sealed(),
        only: order.on,
        // The federation's loop knows better when it takes the task.
        reach: Reach::Lan,
        may_self: may_self && order.on.is_none(),
        expires_at: order.expires_at_ms().map(|ms| ms / 1000),
        publish: !order.is_sealed(),
    })
}
