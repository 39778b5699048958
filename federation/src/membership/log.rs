//! The log itself: admits entries, answers who belongs.

use std::collections::BTreeMap;

use nips::federation::{Act, Entry, FederationId, InvitationId, MAX_HEADS, Message, Role, Terms, ViewId, verified};
use nostr::{Event, EventId, JsonUtil, PublicKey, UnsignedEvent};

use super::fold::{Forbidden, View, fold, removals_in};
use super::graph::{Bits, Graph, Node, Rank};
use super::{MAX_BY_ONE, MAX_BYTES, MAX_ENTRIES, MAX_WAITING, Standing};

/// Why an entry is not admitted, or cannot be made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// No entry of a membership log, or badly signed.
    #[error("not an entry: {0}")]
    Envelope(#[from] nips::federation::EnvelopeError),
    /// An entry of another kind.
    #[error("not a membership entry")]
    Kind,
    /// Of another federation.
    #[error("the entry belongs to another federation")]
    Federation,
    /// Its author had no right to it.
    #[error("{author} may not do this: only the owner and admins may")]
    Author {
        /// Who signed.
        author: PublicKey,
    },
    /// It cannot be done to this node.
    #[error("this cannot be done to {node}: it has no such place in the federation")]
    Subject {
        /// Whom it was about.
        node: PublicKey,
    },
    /// No more members are taken.
    #[error(
        "the federation has {} members, as many as it can; remove one with `timmy peer remove NPUB` first",
        super::MAX_MEMBERS
    )]
    Members,
    /// The log is as long as it may be, or this author's part of it.
    #[error("the membership log is full; found a new federation and invite the nodes anew")]
    Full,
    /// More entries wait for their past than are kept.
    #[error("too many entries wait for those they were made on")]
    Waiting,
}

/// What became of an entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Taken {
    /// Admitted, with those that had waited for it. To be kept, in this order.
    New(Vec<Event>),
    /// It was here.
    Known,
    /// Something that it was made on is not here yet.
    Waiting,
}

/// One who belongs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Its passport.
    pub npub: PublicKey,
    /// Never removed or unknown.
    pub standing: Standing,
}

/// The membership log of one federation.
#[derive(Clone)]
pub struct Log {
    federation: FederationId,
    graph: Graph,
    view: View,
    waiting: BTreeMap<EventId, (Entry, Event)>,
    bytes: usize,
}

impl Log {
    /// An empty log of a federation whose founding entry is still to come.
    pub fn new(federation: FederationId) -> Self {
        let view = View { counts: Bits::default() };
        Self { federation, graph: Graph::default(), view, waiting: BTreeMap::new(), bytes: 0 }
    }

    /// The event that founds a federation, for the founder's passport to sign.
    pub fn founding(name: &str, owner: Option<PublicKey>, founder: PublicKey, at: u64) -> UnsignedEvent {
        Entry::to_event(&Act::Found { name: name.to_owned(), owner }, None, &[], founder, at)
    }

    /// A log that begins with a signed founding entry.
    ///
    /// # Errors
    /// When it is none.
    pub fn found(event: &Event) -> Result<Self, Refused> {
        let mut log = Self::new(FederationId(event.id));
        log.take(event)?;
        if log.graph.len() == 1 { Ok(log) } else { Err(Refused::Kind) }
    }

    /// The event of an act by `author` on the heads known here, for their key to sign.
    ///
    /// # Errors
    /// When the author may not, or the log is full.
    pub fn draft(&self, act: &Act, author: PublicKey, at: u64) -> Result<UnsignedEvent, Refused> {
        self.view.check(&self.graph, &author, act).map_err(|why| refused(why, author, act))?;
        self.check_room(&author, 0)?;
        Ok(Entry::to_event(act, Some(self.federation), &self.graph.heads(), author, at))
    }

    /// Takes an entry, in whatever order entries come.
    ///
    /// # Errors
    /// Says why it is not admitted. It never will be, [`Refused::Full`] and [`Refused::Waiting`] aside.
    pub fn take(&mut self, event: &Event) -> Result<Taken, Refused> {
        if self.graph.number(&event.id).is_some() {
            return Ok(Taken::Known);
        }
        let Message::Entry(entry) = verified(event)? else { return Err(Refused::Kind) };
        let is_ours = match entry.federation {
            Some(federation) => federation == self.federation,
            None => FederationId(entry.id) == self.federation,
        };
        if !is_ours {
            return Err(Refused::Federation);
        }
        if !self.is_ready(&entry) {
            if self.waiting.len() >= MAX_WAITING && !self.waiting.contains_key(&entry.id) {
                return Err(Refused::Waiting);
            }
            self.waiting.insert(entry.id, (*entry, event.clone()));
            return Ok(Taken::Waiting);
        }
        self.waiting.remove(&entry.id);
        self.admit(*entry, event.clone())?;
        let mut new = vec![event.clone()];
        new.extend(self.admit_waiting());
        Ok(Taken::New(new))
    }

    fn is_ready(&self, entry: &Entry) -> bool {
        entry.heads.iter().all(|head| self.graph.number(head).is_some())
    }

    fn admit_waiting(&mut self) -> Vec<Event> {
        let mut admitted = Vec::new();
        while let Some(id) = self.waiting.iter().find(|(_, (entry, _))| self.is_ready(entry)).map(|(id, _)| *id) {
            let Some((entry, event)) = self.waiting.remove(&id) else { break };
            if self.admit(entry, event.clone()).is_ok() {
                admitted.push(event);
            }
        }
        admitted
    }

    /// Admits an entry whose past is here, if its author had the right in that past.
    fn admit(&mut self, entry: Entry, event: Event) -> Result<(), Refused> {
        let size = event.as_json().len();
        self.check_room(&entry.author, size)?;
        let (past, depth) = self.graph.past_of(&entry.heads).ok_or(Refused::Kind)?;
        // The usual case is an entry made on all that is known: then nothing lies beside it, and what counted counts.
        let is_last = past.iter().count() == self.graph.len();
        let rank = self.right(&entry, &past, is_last)?;
        self.bytes += size;
        let number = self.graph.len();
        self.graph.add(Node { entry, event, depth, past, rank });
        if is_last {
            self.view.counts.insert(number);
        } else {
            self.view = fold(&self.graph, &self.graph.all());
        }
        Ok(())
    }

    fn right(&self, entry: &Entry, past: &Bits, is_last: bool) -> Result<Rank, Refused> {
        if matches!(entry.act, Act::Found { .. }) {
            return Ok((1, entry.id));
        }
        let then = if is_last { self.view.clone() } else { fold(&self.graph, past) };
        then.check(&self.graph, &entry.author, &entry.act).map_err(|why| refused(why, entry.author, &entry.act))?;
        // One who leaves may be nobody otherwise: the weakest.
        Ok(then.rank(&self.graph, &entry.author).unwrap_or((u32::MAX, entry.id)))
    }

    fn check_room(&self, author: &PublicKey, size: usize) -> Result<(), Refused> {
        let by_one = self.graph.nodes().filter(|node| node.entry.author == *author).count();
        let is_full = self.graph.len() >= MAX_ENTRIES || by_one >= MAX_BY_ONE || self.bytes + size > MAX_BYTES;
        if is_full { Err(Refused::Full) } else { Ok(()) }
    }
}

fn refused(why: Forbidden, author: PublicKey, act: &Act) -> Refused {
    match (why, act.node()) {
        (Forbidden::Full, _) => Refused::Members,
        (Forbidden::Subject, Some(node)) => Refused::Subject { node: *node },
        (Forbidden::Subject, None) | (Forbidden::Author, _) => Refused::Author { author },
    }
}

/// Questions.
impl Log {
    /// The federation.
    pub fn federation(&self) -> FederationId {
        self.federation
    }

    /// What a key is.
    pub fn standing(&self, who: &PublicKey) -> Standing {
        self.view.standing(&self.graph, who)
    }

    /// The nodes that belong, by passport. The owner, a person, is none of them.
    pub fn members(&self) -> Vec<Member> {
        let of = |npub: &PublicKey| Member { npub: *npub, standing: self.standing(npub) };
        self.graph.subjects().map(of).filter(|member| member.standing.is_member()).collect()
    }

    /// The owner's key.
    pub fn owner(&self) -> Option<PublicKey> {
        self.view.owner(&self.graph)
    }

    /// The name that the founder gave.
    pub fn name(&self) -> Option<&str> {
        self.graph.nodes().find_map(|node| match &node.entry.act {
            Act::Found { name, .. } => Some(name.as_str()),
            Act::Owner { .. } | Act::Join { .. } | Act::Admin { .. } | Act::Remove { .. } => None,
        })
    }

    /// Counts from 1; each removal in the log begins another.
    pub fn epoch(&self) -> u64 {
        1 + removals_in(&self.graph, &self.graph.all())
    }

    /// The epoch with what names it: keys are current when they are of exactly these terms.
    pub fn terms(&self) -> Terms {
        let is_removal = |node: &&Node| matches!(node.entry.act, Act::Remove { .. });
        let mut removals: Vec<&EventId> = self.graph.nodes().filter(is_removal).map(|node| &node.entry.id).collect();
        removals.sort_unstable();
        Terms { federation: self.federation, epoch: self.epoch(), view: ViewId::of(removals) }
    }

    /// Whom the keys of an epoch are sealed to, and as what.
    pub fn recipients(&self) -> Vec<(PublicKey, Role)> {
        let role = |standing: Standing| if standing == Standing::Guest { Role::Guest } else { Role::Sibling };
        self.members().into_iter().map(|member| (member.npub, role(member.standing))).collect()
    }

    /// The join by which an invitation was redeemed: who, and the entry.
    pub fn redeemed(&self, invitation: &InvitationId) -> Option<(PublicKey, EventId)> {
        self.graph.nodes().find_map(|node| match &node.entry.act {
            Act::Join { node: who, invitation: Some(id), .. } if id == invitation => Some((*who, node.entry.id)),
            Act::Found { .. } | Act::Owner { .. } | Act::Join { .. } | Act::Admin { .. } | Act::Remove { .. } => None,
        })
    }

    /// True for the owner's key and for nodes that some entry that counts made an admin, removed or not.
    pub(crate) fn was_admin(&self, who: &PublicKey) -> bool {
        let about = self.graph.about(who).iter().filter(|number| self.view.counts.contains(**number));
        let mut made =
            about.filter(|n| matches!(self.graph.node(**n).entry.act, Act::Found { .. } | Act::Admin { .. }));
        made.next().is_some() || self.owner() == Some(*who)
    }

    /// The last entry by which a node belongs.
    pub fn join_of(&self, who: &PublicKey) -> Option<EventId> {
        let joins = self.graph.about(who).iter().filter(|number| self.view.counts.contains(**number));
        let joins = joins.filter(|number| !matches!(self.graph.node(**number).entry.act, Act::Remove { .. }));
        joins.max_by_key(|number| self.graph.node(**number).place()).map(|number| self.graph.node(*number).entry.id)
    }

    /// True when the entry is here.
    pub fn contains(&self, id: &EventId) -> bool {
        self.graph.number(id).is_some()
    }

    /// Entries that nothing was made on yet, ascending: what a peer is told to say how far this log is. At most 16, the lowest.
    pub fn heads(&self) -> Vec<EventId> {
        let mut heads = self.graph.heads();
        heads.truncate(MAX_HEADS);
        heads
    }

    /// What a peer with these heads lacks, causes before effects. Heads that are not known here are left out of the reckoning.
    pub fn missing_for(&self, heads: &[EventId]) -> Vec<Event> {
        let known: Vec<EventId> = heads.iter().filter(|head| self.contains(head)).copied().collect();
        let (past, _) = self.graph.past_of(&known).unwrap_or_default();
        let order = self.graph.in_order(&self.graph.all());
        order.into_iter().filter(|number| !past.contains(*number)).map(|n| self.graph.node(n).event.clone()).collect()
    }

    /// All entries, causes before effects.
    pub fn events(&self) -> Vec<Event> {
        self.missing_for(&[])
    }

    /// How many entries there are.
    pub fn len(&self) -> usize {
        self.graph.len()
    }

    /// True before the founding entry has come.
    pub fn is_empty(&self) -> bool {
        self.graph.len() == 0
    }
}
