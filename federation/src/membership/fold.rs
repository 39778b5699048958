//! The fold: who belongs, by a set of entries that holds the past of each of its members. It is a function of the set alone.
//!
//! An entry was admitted because its author had the right *in the entry's own past*. What was made at the same time is settled here:
//!
//! 1. Removals are looked at from the strongest author to the weakest ([`Rank`]): the owner's key, then admins by how early they became one.
//! 2. A removal that still counts is final, and all that the removed one did *beside* it (neither before nor after) counts no more, other
//!    than removals that are final already. What was built on such an entry counts only if its author had the right all the same.
//! 3. A node has what was granted to it and not removed since or beside: a removal beats a join or a promotion made beside it.
//!
//! So of two admins who remove each other at the same time, the one who was made an admin first stays, on every node.

use nips::federation::{Act, Role};
use nostr::PublicKey;

use super::graph::{Bits, Graph, Rank};
use super::{MAX_MEMBERS, Standing};

/// What counts.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct View {
    pub counts: Bits,
}

/// Why an author may not do a thing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Forbidden {
    /// The author may not do this.
    Author,
    /// It cannot be done to this node.
    Subject,
    /// No more members.
    Full,
}

/// Folds a set that holds the past of each of its entries.
pub(super) fn fold(graph: &Graph, set: &Bits) -> View {
    let mut view = View { counts: set.clone() };
    let mut final_ones = Bits::default();
    for removal in by_strength(graph, set) {
        if !view.counts.contains(removal) {
            continue;
        }
        final_ones.insert(removal);
        let removed = graph.node(removal).entry.act.node().copied();
        let beside: Vec<usize> = view
            .counts
            .iter()
            .filter(|other| Some(graph.node(*other).entry.author) == removed)
            .filter(|other| graph.is_concurrent(removal, *other) && !final_ones.contains(*other))
            .collect();
        if beside.is_empty() {
            continue;
        }
        beside.iter().for_each(|other| view.counts.remove(*other));
        drop_unfounded(graph, &mut view, &final_ones);
    }
    view
}

fn by_strength(graph: &Graph, set: &Bits) -> Vec<usize> {
    let is_removal = |number: &usize| matches!(graph.node(*number).entry.act, Act::Remove { .. });
    let mut removals: Vec<usize> = set.iter().filter(is_removal).collect();
    removals.sort_unstable_by_key(|number| (graph.node(*number).rank, graph.node(*number).place()));
    removals
}

/// Drops entries whose authors had their right from entries that count no more.
fn drop_unfounded(graph: &Graph, view: &mut View, final_ones: &Bits) {
    for number in graph.in_order(&view.counts) {
        let node = graph.node(number);
        if final_ones.contains(number) || matches!(node.entry.act, Act::Found { .. }) {
            continue;
        }
        let past = View { counts: view.counts.and(&node.past) };
        if past.check(graph, &node.entry.author, &node.entry.act).is_err() {
            view.counts.remove(number);
        }
    }
}

impl View {
    /// The owner's key: the last that was named; the lowest id, where two were named at once.
    pub fn owner(&self, graph: &Graph) -> Option<PublicKey> {
        let names = |number: usize| match &graph.node(number).entry.act {
            Act::Found { owner, .. } => *owner,
            Act::Owner { person } => Some(*person),
            Act::Join { .. } | Act::Admin { .. } | Act::Remove { .. } => None,
        };
        let named: Vec<usize> = self.counts.iter().filter(|number| names(*number).is_some()).collect();
        let is_last = |number: &&usize| named.iter().all(|other| !graph.node(*other).past.contains(**number));
        let last = named.iter().filter(is_last).min_by_key(|number| graph.node(**number).entry.id)?;
        names(*last)
    }

    /// The founder.
    pub fn founder(&self, graph: &Graph) -> Option<PublicKey> {
        let mut founding = graph.nodes().filter(|node| matches!(node.entry.act, Act::Found { .. }));
        founding.next().map(|node| node.entry.author)
    }

    /// The grants to a node that no removal has ended.
    fn grants<'a>(&'a self, graph: &'a Graph, who: &PublicKey) -> impl Iterator<Item = usize> + 'a {
        let about = graph.about(who);
        let is_removal = |number: usize| matches!(graph.node(number).entry.act, Act::Remove { .. });
        let lives = move |grant: usize| {
            about.iter().filter(|n| self.counts.contains(**n) && is_removal(**n)).all(|n| {
                // A removal in the grant's own past was before it: the node was taken back.
                graph.node(grant).past.contains(*n)
            })
        };
        about.iter().copied().filter(move |n| self.counts.contains(*n) && !is_removal(*n) && lives(*n))
    }

    /// What a key is.
    pub fn standing(&self, graph: &Graph, who: &PublicKey) -> Standing {
        if self.owner(graph) == Some(*who) {
            return Standing::Owner;
        }
        let level = |number: usize| match &graph.node(number).entry.act {
            Act::Found { .. } | Act::Admin { .. } => Standing::Admin,
            Act::Join { role: Role::Sibling, .. } => Standing::Sibling,
            Act::Join { role: Role::Guest, .. } => Standing::Guest,
            Act::Owner { .. } | Act::Remove { .. } => Standing::Unknown,
        };
        let best = self.grants(graph, who).map(level).min_by_key(Standing::order);
        best.unwrap_or_else(|| self.removed(graph, who))
    }

    fn removed(&self, graph: &Graph, who: &PublicKey) -> Standing {
        let removals = graph.about(who).iter().filter(|number| self.counts.contains(**number));
        let removals = removals.filter(|number| matches!(graph.node(**number).entry.act, Act::Remove { .. }));
        let epochs = removals.map(|number| 2 + removals_in(graph, &graph.node(*number).past));
        epochs.max().map_or(Standing::Unknown, |epoch| Standing::Removed { epoch })
    }

    /// How strong an author is; none for those who may do nothing.
    pub fn rank(&self, graph: &Graph, author: &PublicKey) -> Option<Rank> {
        if self.owner(graph) == Some(*author) {
            return Some((0, nostr::EventId::all_zeros()));
        }
        let makes_admin =
            |number: &usize| matches!(graph.node(*number).entry.act, Act::Found { .. } | Act::Admin { .. });
        let earliest = self.grants(graph, author).filter(makes_admin).map(|n| graph.node(n).place()).min();
        earliest.map(|(depth, id)| (depth + 1, id))
    }

    /// How many belong.
    pub fn count(&self, graph: &Graph) -> usize {
        graph.subjects().filter(|who| self.grants(graph, who).next().is_some()).count()
    }

    /// Whether `author` may do `act` here.
    pub fn check(&self, graph: &Graph, author: &PublicKey, act: &Act) -> Result<(), Forbidden> {
        let standing = self.standing(graph, author);
        let subject = act.node().map(|node| self.standing(graph, node));
        let is_member = subject.is_some_and(|s| s.is_member());
        let right = |may: bool| if may { Ok(()) } else { Err(Forbidden::Author) };
        match act {
            Act::Found { .. } => Err(Forbidden::Author),
            Act::Owner { .. } => right(match self.owner(graph) {
                Some(_) => standing == Standing::Owner,
                None => standing == Standing::Admin && self.founder(graph) == Some(*author),
            }),
            Act::Join { .. } => {
                right(standing.may_admit())?;
                if !is_member && self.count(graph) >= MAX_MEMBERS { Err(Forbidden::Full) } else { Ok(()) }
            }
            Act::Admin { .. } => {
                right(standing.may_admit())?;
                let may = matches!(subject, Some(Standing::Sibling | Standing::Admin));
                if may { Ok(()) } else { Err(Forbidden::Subject) }
            }
            Act::Remove { node } => {
                right(standing.may_admit() || (node == author && is_member))?;
                // The owner's key is no member that could be removed.
                let may = is_member && subject != Some(Standing::Owner);
                if may { Ok(()) } else { Err(Forbidden::Subject) }
            }
        }
    }
}

/// How many removals a set holds.
pub(super) fn removals_in(graph: &Graph, set: &Bits) -> u64 {
    let count = set.iter().filter(|n| matches!(graph.node(*n).entry.act, Act::Remove { .. })).count();
    u64::try_from(count).unwrap_or(u64::MAX)
}
