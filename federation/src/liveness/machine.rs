//! The liveness machine: links, echoes and SWIM. No I/O; the clock is milliseconds handed in.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use foca::{Foca, NoCustomBroadcast, State, Timer};
use libp2p::PeerId;

use super::identity::{self, Who, Wire};
use super::paths::{Advice, LinkId, Paths};
use super::rng::SplitMix;
use super::swim::{SUSPICION_MS, SWIM, Wants, config};

/// The pause between two echoes on a link.
pub(crate) const ECHO_MS: u64 = 1_000;
/// The same while a member is suspected or has been silent.
const DOUBT_MS: u64 = 250;
/// An echo and its answer are overdue after this: a member is in doubt.
const QUIET_MS: u64 = ECHO_MS + DOUBT_MS;
/// A member of which anything was heard within this is alive, whoever says otherwise.
pub(crate) const SILENCE_MS: u64 = 2_500;
/// A member that has been silent on every link for this long, four doubtful echoes included, is suspected
/// without waiting for SWIM to come round to it.
const SUSPECT_MS: u64 = 2_000;
/// After a refuted suspicion of ours we suspect the same member no sooner; doubled each time, until we hear it.
const FIRST_PAUSE_MS: u64 = 5_000;
const LAST_PAUSE_MS: u64 = 300_000;
/// A machine that wakes this much too late was stopped or is overloaded.
const STALL_MS: u64 = 700;
/// The pause between two attempts to join a member that has not answered yet.
const JOIN_MS: u64 = 1_000;
/// The machine looks around at least this often.
const LOOK_MS: u64 = 250;

/// The first byte of a frame, beside [`SWIM`].
pub(crate) const ECHO: u8 = 1;
pub(crate) const ECHOED: u8 = 2;
pub(crate) const BYE: u8 = 3;

/// What liveness tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LivenessEvent {
    /// A member is there, for the first time or after a suspicion.
    Alive(PeerId),
    /// A member did not answer in time; it may be slow.
    Suspect(PeerId),
    /// A member is dead or cut off: nobody who is left hears it.
    Dead(PeerId),
    /// A member that was dead is there again.
    Back(PeerId),
}

/// What a member is taken for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LivenessState {
    /// Linked, but it has not spoken yet.
    Unknown,
    /// Answers.
    Alive,
    /// Does not answer in time.
    Suspect,
    /// Dead or cut off.
    Dead,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Input<'a> {
    LinkUp {
        link: LinkId,
        peer: PeerId,
    },
    LinkDown {
        link: LinkId,
    },
    Frame {
        link: LinkId,
        bytes: &'a [u8],
    },
    /// A member was removed: nothing more is told of it.
    Forget {
        peer: PeerId,
    },
    /// This node ends: the others need not find out.
    Leave,
    Wake,
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Effect {
    Send {
        link: LinkId,
        bytes: Vec<u8>,
    },
    Tell(LivenessEvent),
    Path(Advice),
    /// A round trip was measured.
    Rtt {
        link: LinkId,
        ms: u64,
    },
}

#[derive(Debug)]
struct Member {
    told: LivenessState,
    /// When anything was last heard of it, links that are gone included.
    heard_ms: u64,
    /// It has said farewell since its last link came up.
    left: bool,
    joined_ms: Option<u64>,
    echoed_ms: u64,
    doubt: Option<Doubt>,
    /// We do not suspect it before; and the pause after that.
    doubt_after_ms: u64,
    pause_ms: u64,
}

impl Member {
    fn new(now: u64) -> Self {
        Self {
            told: LivenessState::Unknown,
            heard_ms: now,
            left: false,
            joined_ms: None,
            echoed_ms: now,
            doubt: None,
            doubt_after_ms: 0,
            pause_ms: FIRST_PAUSE_MS,
        }
    }
}

/// A suspicion that ends in death unless the suspect comes with a later incarnation, or is heard.
#[derive(Debug)]
struct Doubt {
    who: Who,
    incarnation: foca::Incarnation,
    since_ms: u64,
}

/// See the module.
pub(crate) struct Machine {
    foca: Foca<Who, Wire, SplitMix, NoCustomBroadcast>,
    timers: BTreeMap<(u64, u64), Timer<Who>>,
    timer_count: u64,
    paths: Paths,
    members: BTreeMap<PeerId, Member>,
    /// What SWIM says, of linked members and others.
    swim: BTreeMap<PeerId, State>,
    linked: Arc<AtomicUsize>,
    /// When the machine asked to be woken.
    wake_ms: u64,
    effects: Vec<Effect>,
}

impl Machine {
    /// A machine of `me`; `start` is later at each start of the process (Unix milliseconds).
    pub(crate) fn new(me: PeerId, start: u64, seed: u64, now: u64) -> Self {
        let linked = Arc::new(AtomicUsize::new(0));
        let wire = Wire::new(Arc::clone(&linked));
        let foca = Foca::new(Who::new(me, start), config(), SplitMix::new(seed), wire);
        Self {
            foca,
            timers: BTreeMap::new(),
            timer_count: 0,
            paths: Paths::default(),
            members: BTreeMap::new(),
            swim: BTreeMap::new(),
            linked,
            wake_ms: now + LOOK_MS,
            effects: Vec::new(),
        }
    }

    /// When [`Input::Wake`] is due.
    pub(crate) fn wake_ms(&self) -> u64 {
        self.wake_ms
    }

    /// What every member is taken for.
    pub(crate) fn states(&self) -> BTreeMap<PeerId, LivenessState> {
        self.members.iter().map(|(peer, m)| (*peer, m.told)).collect()
    }

    /// Takes an input and gives what is to be done.
    pub(crate) fn handle(&mut self, input: Input<'_>, now: u64) -> Vec<Effect> {
        self.notice_stall(now);
        match input {
            Input::LinkUp { link, peer } => self.link_up(link, peer, now),
            Input::LinkDown { link } => {
                self.paths.down(link);
            }
            Input::Frame { link, bytes } => self.frame(link, bytes, now),
            Input::Forget { peer } => self.forget(peer),
            Input::Leave => self.leave(now),
            Input::Wake => {}
        }
        if now >= self.wake_ms {
            self.look(now);
        }
        std::mem::take(&mut self.effects)
    }

    /// A late waking is ours to be patient about: every deadline moves by it.
    fn notice_stall(&mut self, now: u64) {
        let late = now.saturating_sub(self.wake_ms);
        if late < STALL_MS {
            return;
        }
        tracing::debug!(late_ms = late, "liveness was not run in time");
        self.paths.forgive(late);
        for member in self.members.values_mut() {
            member.heard_ms += late;
        }
        self.timers = std::mem::take(&mut self.timers).into_iter().map(|((at, n), t)| ((at + late, n), t)).collect();
        self.wake_ms = now;
    }

    fn link_up(&mut self, link: LinkId, peer: PeerId, now: u64) {
        self.paths.up(link, peer, now);
        let member = self.members.entry(peer).or_insert_with(|| Member::new(now));
        (member.joined_ms, member.left) = (None, false);
        self.join(peer, now);
    }

    /// Introduces this node to a member whose start is not known.
    fn join(&mut self, peer: PeerId, now: u64) {
        if let Some(member) = self.members.get_mut(&peer) {
            member.joined_ms = Some(now);
        }
        self.linked.store(self.members.len(), Ordering::Relaxed);
        self.run(now, |foca, wants| foca.announce(Who::new(peer, 0), wants));
    }

    fn frame(&mut self, link: LinkId, bytes: &[u8], now: u64) {
        let Some(peer) = self.paths.peer(link) else { return };
        let Some((kind, rest)) = bytes.split_first() else { return };
        self.effects.extend(self.paths.hear(link, now).map(Effect::Path));
        if let Some(member) = self.members.get_mut(&peer) {
            (member.heard_ms, member.doubt, member.pause_ms) = (now, None, FIRST_PAUSE_MS);
        }
        match *kind {
            // The link has proved who speaks; a datagram in another's name is dropped.
            SWIM if identity::source(rest) == Some(peer) => self.run(now, |foca, wants| foca.handle_data(rest, wants)),
            ECHO if rest.len() == 8 => {
                let bytes = [&[ECHOED], rest].concat();
                self.effects.push(Effect::Send { link, bytes });
            }
            ECHOED => {
                if let Ok(sent) = <[u8; 8]>::try_from(rest).map(u64::from_be_bytes)
                    && let Some(ms) = now.checked_sub(sent)
                {
                    self.effects.push(Effect::Rtt { link, ms });
                }
            }
            BYE => self.bye(peer, now),
            _ => {}
        }
    }

    /// Says farewell on every link, and lets SWIM spread it.
    fn leave(&mut self, now: u64) {
        let peers: Vec<PeerId> = self.members.keys().copied().collect();
        for link in peers.into_iter().flat_map(|peer| self.paths.of(peer).collect::<Vec<_>>()) {
            self.effects.push(Effect::Send { link, bytes: vec![BYE] });
        }
        self.run(now, |foca, wants| foca.leave_cluster(wants));
    }

    /// A member ends: no suspicion is needed.
    fn bye(&mut self, peer: PeerId, now: u64) {
        let Some(member) = self.members.get_mut(&peer) else { return };
        member.left = true;
        let known = self.foca.iter_membership_state().find(|m| m.id().peer == peer && m.state() != State::Down);
        if let Some(known) = known {
            let down = foca::Member::new(known.id().clone(), known.incarnation(), State::Down);
            self.run(now, |foca, wants| foca.apply_many([down].into_iter(), true, wants));
        }
        self.tell(peer, now);
    }

    fn forget(&mut self, peer: PeerId) {
        self.members.remove(&peer);
        let links: Vec<LinkId> = self.paths.of(peer).collect();
        for link in links {
            self.paths.down(link);
        }
    }

    fn look(&mut self, now: u64) {
        while let Some(entry) = self.timers.first_entry() {
            if entry.key().0 > now {
                break;
            }
            let timer = entry.remove();
            self.fire(timer, now);
        }
        self.note_swim();
        let advice = self.paths.look(now);
        self.effects.extend(advice.into_iter().map(Effect::Path));
        let peers: Vec<PeerId> = self.members.keys().copied().collect();
        for peer in peers {
            self.doubt(peer, now);
            self.look_at(peer, now);
        }
        let timer = self.timers.first_key_value().map_or(u64::MAX, |((at, _), _)| *at);
        self.wake_ms = timer.clamp(now + 1, now + LOOK_MS);
    }

    /// A suspicion does not end in death while the suspect is heard.
    fn fire(&mut self, timer: Timer<Who>, now: u64) {
        if let Timer::ChangeSuspectToDown { member_id, .. } = &timer
            && self.is_heard(member_id.peer, now, SILENCE_MS)
        {
            self.keep_timer(timer, now + ECHO_MS);
            return;
        }
        self.run(now, |foca, wants| foca.handle_timer(timer, wants));
    }

    fn is_heard(&self, peer: PeerId, now: u64, within_ms: u64) -> bool {
        self.members.get(&peer).is_some_and(|m| !m.left && now.saturating_sub(m.heard_ms) < within_ms)
    }

    fn look_at(&mut self, peer: PeerId, now: u64) {
        self.tell(peer, now);
        let Some(member) = self.members.get_mut(&peer) else { return };
        let is_doubtful = member.told != LivenessState::Alive || now.saturating_sub(member.heard_ms) > QUIET_MS;
        let pause = if is_doubtful { DOUBT_MS } else { ECHO_MS };
        if now.saturating_sub(member.echoed_ms) >= pause {
            member.echoed_ms = now;
            let bytes = [&[ECHO][..], &now.to_be_bytes()].concat();
            let links: Vec<LinkId> = self.paths.of(peer).collect();
            self.effects.extend(links.into_iter().map(|link| Effect::Send { link, bytes: bytes.clone() }));
        }
        let is_up = matches!(self.swim.get(&peer), Some(State::Alive | State::Suspect));
        let joins = |m: &Member| !is_up && m.joined_ms.is_none_or(|at| now.saturating_sub(at) >= JOIN_MS);
        if self.members.get(&peer).is_some_and(joins) && self.paths.of(peer).next().is_some() {
            self.join(peer, now);
        }
    }

    /// Suspects a member that is silent on every link, and ends a suspicion that nobody has refuted.
    fn doubt(&mut self, peer: PeerId, now: u64) {
        let Some(member) = self.members.get_mut(&peer) else { return };
        let swim = self.foca.iter_membership_state().find(|m| m.id().peer == peer && m.state() != State::Down);
        let Some(swim) = swim.filter(|_| now.saturating_sub(member.heard_ms) >= SUSPECT_MS) else {
            member.doubt = None;
            return;
        };
        let is_same = |d: &Doubt| d.who == *swim.id() && d.incarnation == swim.incarnation();
        let (who, incarnation, state) = (swim.id().clone(), swim.incarnation(), swim.state());
        let verdict = match member.doubt.as_ref().filter(|d| is_same(d)) {
            Some(doubt) if now.saturating_sub(doubt.since_ms) < SUSPICION_MS => return,
            Some(_) => State::Down,
            None if state == State::Alive && now < member.doubt_after_ms => return,
            None => State::Suspect,
        };
        member.doubt = Some(Doubt { who: who.clone(), incarnation, since_ms: now });
        if verdict == State::Suspect {
            member.doubt_after_ms = now + member.pause_ms;
            member.pause_ms = (member.pause_ms * 2).min(LAST_PAUSE_MS);
        }
        let update = foca::Member::new(who, incarnation, verdict);
        self.run(now, |foca, wants| foca.apply_many([update].into_iter(), true, wants));
    }

    /// Tells what has changed about a member: SWIM's word, weighed with what was heard.
    fn tell(&mut self, peer: PeerId, now: u64) {
        let heard = self.is_heard(peer, now, SILENCE_MS);
        let swim = self.swim.get(&peer).copied();
        let recently = self.is_heard(peer, now, QUIET_MS);
        let Some(member) = self.members.get_mut(&peer) else { return };
        let state = match swim {
            Some(State::Down) if heard && member.told != LivenessState::Dead => member.told,
            Some(State::Down) => LivenessState::Dead,
            // SWIM's doubts are not ours while we hear it.
            Some(State::Suspect) if !recently => LivenessState::Suspect,
            Some(State::Suspect | State::Alive) => LivenessState::Alive,
            None => member.told,
        };
        if state == member.told || (state == LivenessState::Dead && member.told == LivenessState::Unknown) {
            return;
        }
        let was_dead = member.told == LivenessState::Dead;
        member.told = state;
        let event = match state {
            LivenessState::Unknown => return,
            LivenessState::Alive | LivenessState::Suspect if was_dead => LivenessEvent::Back(peer),
            LivenessState::Alive => LivenessEvent::Alive(peer),
            LivenessState::Suspect => LivenessEvent::Suspect(peer),
            LivenessState::Dead => LivenessEvent::Dead(peer),
        };
        self.effects.push(Effect::Tell(event));
        if state == LivenessState::Dead {
            self.effects.push(Effect::Path(Advice::HangUp { peer }));
        }
    }

    /// Runs foca and carries out what it wants. Its errors are about bytes that came, or about a probe that a
    /// stall has cut short; both are over with the call.
    fn run<E: std::fmt::Display>(
        &mut self,
        now: u64,
        call: impl FnOnce(&mut Foca<Who, Wire, SplitMix, NoCustomBroadcast>, &mut Wants) -> Result<(), E>,
    ) {
        let mut wants = Wants::default();
        if let Err(error) = call(&mut self.foca, &mut wants) {
            tracing::debug!(%error, "liveness");
        }
        for (to, bytes) in wants.sends {
            for link in self.paths.route(to.peer, now) {
                self.effects.push(Effect::Send { link, bytes: bytes.clone() });
            }
        }
        for (timer, after) in wants.timers {
            self.keep_timer(timer, now.saturating_add(after));
        }
        for peer in wants.changed {
            if let Some(member) = self.members.get_mut(&peer) {
                member.doubt = None;
            }
            self.note_swim();
            self.tell(peer, now);
        }
    }

    fn note_swim(&mut self) {
        self.swim = self.foca.iter_membership_state().map(|m| (m.id().peer, m.state())).collect();
    }

    fn keep_timer(&mut self, timer: Timer<Who>, at: u64) {
        self.timer_count += 1;
        self.timers.insert((at, self.timer_count), timer);
        self.wake_ms = self.wake_ms.min(at);
    }
}

#[cfg(test)]
#[path = "sim_tests.rs"]
mod sim;
