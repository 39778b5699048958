//! Invitations, over a stream and over letters: what a person may meet, and what an attacker.

use federation::invitation::{
    Ended, Frame, Inviter, InviterEffect, InviterInput, InviterWorld, JoinError, Joined, Joiner, JoinerEffect,
    JoinerInput, MAX_OPEN, MAX_WELCOME_FRAME, MAX_WRONG_IN_ALL, MAX_WRONG_OF_ONE, MAX_WRONG_PROOFS, Offer, Record,
    Source, may_join,
};
use federation::membership::Standing;
use nips::federation::{Act, Answer, Code, Refusal, Role};
use nostr::{Event, Timestamp};

use super::world::{NOW, Node, admit, card, meet, npub};

/// An inviter with what its driver has.
struct Host {
    node: Node,
    inviter: Inviter,
    journal: Vec<Record>,
}

impl Host {
    fn new() -> Self {
        Self { node: Node::new(1).found(None), inviter: Inviter::default(), journal: vec![] }
    }

    fn code(&mut self, is_guest: bool) -> Code {
        self.offer(&Offer { is_guest, addresses: self.node.me.addresses.clone(), ..Offer::default() })
    }

    fn offer(&mut self, offer: &Offer) -> Code {
        let mut random = [0; 16];
        random.copy_from_slice(&self.node.random()[..16]);
        let world = InviterWorld { me: &self.node.me, log: self.node.log(), keyring: &self.node.keyring };
        let (code, effect) = self.inviter.open(random, offer, &world, NOW).unwrap();
        let InviterEffect::Journal(record) = effect else { panic!() };
        self.journal.push(record);
        // What is typed is what was printed.
        Code::read(&code.print(), NOW).unwrap()
    }

    fn handle(&mut self, input: InviterInput<'_>, now: u64) -> Vec<InviterEffect> {
        let mut rng = self.node.rng.clone();
        let world = InviterWorld { me: &self.node.me, log: self.node.log(), keyring: &self.node.keyring };
        let effects = self.inviter.handle(input, &world, now, &mut rng);
        self.node.rng = rng;
        effects
    }

    /// Carries out everything; `dies_after` effects of the kind that a crash can follow.
    fn asked(
        &mut self,
        from: Source,
        event: &Event,
        now: u64,
        mut dies_after: usize,
    ) -> Option<Result<Event, Refusal>> {
        let mut effects = self.handle(InviterInput::Asked { from, event }, now);
        let mut heard = None;
        while !effects.is_empty() {
            let mut next = Vec::new();
            for effect in effects {
                if matches!(effect, InviterEffect::Journal(_) | InviterEffect::Entry(_) | InviterEffect::Welcome { .. })
                {
                    if dies_after == 0 {
                        return None;
                    }
                    dies_after -= 1;
                }
                match effect {
                    InviterEffect::Journal(record) => {
                        let id = record.id();
                        // Through the file, as a restart reads it.
                        self.journal.retain(|kept| kept.id() != id);
                        self.journal.push(Record::from_json(&record.to_json()).unwrap());
                        next.extend(self.handle(InviterInput::Journaled(id), now));
                    }
                    InviterEffect::Sign { invitation, entry, keys } => {
                        let sign =
                            |event: nostr::UnsignedEvent| Box::new(event.sign_with_keys(&self.node.passport).unwrap());
                        let (entry, keys) = (entry.map(|entry| sign(*entry)), sign(*keys));
                        next.extend(self.handle(InviterInput::Signed { invitation, entry, keys }, now));
                    }
                    InviterEffect::Entry(entry) => {
                        self.node.log_mut().take(&entry).unwrap();
                    }
                    InviterEffect::Card(card) => self.node.saw(&card),
                    InviterEffect::Welcome { to, answer } => {
                        assert_eq!(to, from);
                        heard = Some(Ok(signed(&answer, &self.node)));
                    }
                    InviterEffect::Refuse { to, refusal, .. } => {
                        assert_eq!(to, from);
                        heard = Some(Err(refusal));
                    }
                    InviterEffect::Forget(id) => self.journal.retain(|record| record.id() != id),
                }
            }
            effects = next;
        }
        heard
    }

    fn restart(&mut self) {
        self.inviter = Inviter::restore(self.journal.clone());
    }
}

fn signed(answer: &Answer, by: &Node) -> Event {
    answer.to_event().custom_created_at(Timestamp::from_secs(NOW)).sign_with_keys(&by.install).unwrap()
}

fn ask_of(effects: Vec<JoinerEffect>) -> Answer {
    let Some(JoinerEffect::Ask(answer)) = effects.into_iter().next() else { panic!() };
    *answer
}

fn begin(code: &Code, node: &mut Node) -> (Joiner, Event) {
    let mut nonce = [0; 32];
    nonce.copy_from_slice(&node.random()[..32]);
    let (joiner, effects) = Joiner::new(code.clone(), node.me.clone(), nonce, NOW);
    (joiner, signed(&ask_of(effects), node))
}

/// One asking by a carrier, all the way.
fn join_by(host: &mut Host, code: &Code, node: &mut Node, is_stream: bool, now: u64) -> Result<Joined, JoinError> {
    let (mut joiner, ask) = begin(code, node);
    let (there, back) = if is_stream {
        (Source::Stream(node.me.peer_id), Source::Stream(host.node.me.peer_id))
    } else {
        (Source::Letter(node.npub()), Source::Letter(host.node.npub()))
    };
    let effects = match host.asked(there, &ask, now, usize::MAX).unwrap() {
        Ok(welcome) => {
            let frame = Frame::Event(Box::new(welcome)).encode();
            let Some(Frame::Event(welcome)) = Frame::parse(&frame, MAX_WELCOME_FRAME) else { panic!() };
            joiner.handle(JoinerInput::Heard { from: back, event: &welcome }, &node.install, NOW)
        }
        Err(refusal) => {
            let Some(Frame::No(refusal)) = Frame::parse(&Frame::No(refusal).encode(), 100) else { panic!() };
            joiner.handle(JoinerInput::Refused { from: back, refusal }, &node.install, NOW)
        }
    };
    match effects.into_iter().next() {
        Some(JoinerEffect::Joined(joined)) => Ok(*joined),
        Some(JoinerEffect::Failed(error)) => Err(error),
        Some(JoinerEffect::Ask(_)) | None => Err(JoinError::NoAnswer),
    }
}

fn join(host: &mut Host, code: &Code, node: &mut Node) -> Result<Joined, JoinError> {
    join_by(host, code, node, true, NOW)
}

fn refused(result: Result<Joined, JoinError>) -> Refusal {
    match result.err() {
        Some(JoinError::Refused(refusal)) => refusal,
        other => panic!("{other:?}"),
    }
}

fn settle(node: &mut Node, joined: Joined) {
    node.log = Some(joined.log);
    node.keyring = joined.keyring;
    node.sealed = joined.sealed;
    node.saw(&joined.inviter);
}

#[test]
fn a_code_makes_a_sibling_by_either_carrier_and_they_meet() {
    for is_stream in [true, false] {
        let mut host = Host::new();
        let code = host.code(false);
        let mut node = Node::new(2);
        let joined = join_by(&mut host, &code, &mut node, is_stream, NOW).unwrap();
        assert_eq!((joined.standing, joined.log.members().len()), (Standing::Sibling, 2));
        settle(&mut node, joined);
        let met = meet(&mut node, &mut host.node);
        assert!(met.dialer.unwrap().unwrap().is_current);
        assert_eq!(host.node.standing(2), Standing::Sibling);
    }
}

#[test]
fn a_guest_s_code_brings_no_key_of_the_siblings() {
    let mut host = Host::new();
    let code = host.code(true);
    let mut guest = Node::new(2);
    let joined = join(&mut host, &code, &mut guest).unwrap();
    assert_eq!(joined.standing, Standing::Guest);
    assert!(joined.keyring.secrets(&joined.log.terms()).unwrap().sibling.is_none());
    // Used again by the same guest: nothing changes. With a sibling's code it becomes a sibling.
    assert!(join(&mut host, &code, &mut guest).is_ok());
    assert_eq!(host.node.log().len(), 2);
    let code = host.code(false);
    assert_eq!(join(&mut host, &code, &mut guest).unwrap().standing, Standing::Sibling);
}

#[test]
fn a_code_is_good_for_one_and_again_for_the_same() {
    let mut host = Host::new();
    let code = host.code(false);
    let (mut first, mut second) = (Node::new(2), Node::new(3));
    let entry = join(&mut host, &code, &mut first).unwrap().log.heads();
    assert_eq!(refused(join(&mut host, &code, &mut second)), Refusal::Used);
    // The answer was lost: the same joiner asks again, later than the code lives, after a restart of the inviter, by the other carrier.
    host.restart();
    let again = join_by(&mut host, &code, &mut first, false, NOW + 3600).unwrap();
    assert_eq!((again.log.heads(), host.node.log().len()), (entry, 2), "no second join");
    assert_eq!(refused(join(&mut host, &code, &mut second)), Refusal::Used);
    // One who belongs already spends no other code.
    let other = host.code(false);
    assert!(join(&mut host, &other, &mut first).is_ok());
    assert_eq!((host.inviter.open_codes(NOW), host.node.log().len()), (1, 2));
    assert!(join(&mut host, &other, &mut second).is_ok());
}

#[test]
fn a_crash_at_any_point_loses_nothing_and_spends_once() {
    // Journal, entry, welcome: dies before each of them.
    for dies_after in 0..3 {
        let mut host = Host::new();
        let code = host.code(false);
        let (mut node, mut other) = (Node::new(2), Node::new(3));
        let (_, ask) = begin(&code, &mut node);
        assert!(host.asked(Source::Stream(node.me.peer_id), &ask, NOW, dies_after).is_none());
        host.restart();
        if dies_after > 0 {
            assert_eq!(refused(join(&mut host, &code, &mut other)), Refusal::Used, "after {dies_after}");
        }
        let joined = join(&mut host, &code, &mut node).unwrap();
        assert_eq!((joined.log.members().len(), host.node.log().len()), (2, 2), "after {dies_after}");
        assert_eq!(refused(join(&mut host, &code, &mut other)), Refusal::Used);
    }
}

#[test]
fn two_at_once_one_gets_in() {
    let mut host = Host::new();
    let code = host.code(false);
    let (mut a, mut b) = (Node::new(2), Node::new(3));
    let ((_, ask_a), (_, ask_b)) = (begin(&code, &mut a), begin(&code, &mut b));
    let from = |node: &Node| Source::Stream(node.me.peer_id);
    let first = host.handle(InviterInput::Asked { from: from(&a), event: &ask_a }, NOW);
    assert!(first.iter().any(|e| matches!(e, InviterEffect::Journal(_))));
    assert!(!first.iter().any(|e| matches!(e, InviterEffect::Sign { .. } | InviterEffect::Welcome { .. })));
    let second = host.handle(InviterInput::Asked { from: from(&b), event: &ask_b }, NOW);
    assert!(matches!(second.as_slice(), [InviterEffect::Refuse { refusal: Refusal::Used, .. }]));
    // The same joiner by its other carrier while the journal writes: nothing is signed twice, nor before.
    let by_letter = host.handle(InviterInput::Asked { from: Source::Letter(a.npub()), event: &ask_a }, NOW);
    assert!(!by_letter.iter().any(|e| matches!(e, InviterEffect::Sign { .. } | InviterEffect::Journal(_))));
    assert!(
        host.handle(InviterInput::Journaled(code.id()), NOW).iter().any(|e| matches!(e, InviterEffect::Sign { .. }))
    );
    // Signing fails: the code is spent, and good for the same joiner still.
    let failed = host.handle(InviterInput::Failed(code.id()), NOW);
    assert!(matches!(failed.as_slice(), [InviterEffect::Refuse { refusal: Refusal::Failed, .. }]));
    assert!(join(&mut host, &code, &mut a).is_ok());
}

#[test]
fn unknown_expired_withdrawn_and_not_allowed_are_told_apart() {
    let mut host = Host::new();
    let mut node = Node::new(2);
    let unknown = Code::new([7; 16], host.node.npub(), host.node.me.peer_id, false, NOW);
    assert_eq!(refused(join(&mut host, &unknown, &mut node)), Refusal::Unknown);
    let code = host.code(false);
    assert_eq!(refused(join_by(&mut host, &code, &mut node, true, NOW + 600)), Refusal::Expired);
    assert!(host.inviter.withdraw(&code.id()).is_some());
    assert_eq!(refused(join(&mut host, &code, &mut node)), Refusal::Burnt);
    // A day after its end it is forgotten.
    let code = host.code(false);
    let effects = host.handle(InviterInput::Tick, NOW + 600 + 24 * 3600);
    assert!(effects.iter().any(|e| matches!(e, InviterEffect::Forget(id) if *id == code.id())));
    // The inviter was an admin when it made the code, and is none any more.
    let mut root = Node::new(9).found(None);
    let mut inviter = admit(&mut root, Node::new(1), Role::Sibling);
    assert!(root.act(&Act::Admin { node: npub(1) }));
    meet(&mut inviter, &mut root);
    let mut host = Host { node: inviter, inviter: Inviter::default(), journal: vec![] };
    let code = host.code(false);
    assert!(root.act(&Act::Remove { node: npub(1) }));
    for entry in root.log().events() {
        let _ = host.node.log_mut().take(&entry);
    }
    assert_eq!(refused(join(&mut host, &code, &mut node)), Refusal::NotAllowed);
    let world = InviterWorld { me: &host.node.me, log: host.node.log(), keyring: &host.node.keyring };
    assert_eq!(host.inviter.open([1; 16], &Offer::default(), &world, NOW).err(), Some(Ended::NotAllowed));
}

#[test]
fn forged_proofs_burn_the_code() {
    let mut host = Host::new();
    let code = host.code(false);
    let mut good = Node::new(2);
    for n in 0..MAX_WRONG_PROOFS {
        // One who saw the invitation's name and not the code, each time another node.
        let mut thief = Node::new(20 + u8::try_from(n).unwrap());
        let (_, ask) = begin(&code, &mut thief);
        let Ok(nips::federation::Message::Answer(answer)) = nips::federation::parse(&ask) else { panic!() };
        let Answer::Ask(mut ask) = *answer else { panic!() };
        ask.proof[3] ^= 1;
        let event = signed(&Answer::Ask(ask), &thief);
        let heard = host.asked(Source::Stream(thief.me.peer_id), &event, NOW, usize::MAX).unwrap();
        assert_eq!(heard.err(), Some(Refusal::Forged));
    }
    assert_eq!(refused(join(&mut host, &code, &mut good)), Refusal::Burnt);
    host.restart();
    assert_eq!(refused(join(&mut host, &code, &mut good)), Refusal::Burnt);
    assert_eq!(host.node.log().len(), 1);
}

#[test]
fn wrong_tries_are_limited_for_one_and_in_all() {
    let mut host = Host::new();
    let good = host.code(false);
    let unknown = |n: u8| Code::new([n; 16], npub(1), Node::new(1).me.peer_id, false, NOW);
    let mut thief = Node::new(2);
    for n in 0..MAX_WRONG_OF_ONE {
        assert_eq!(refused(join(&mut host, &unknown(u8::try_from(n).unwrap()), &mut thief)), Refusal::Unknown);
    }
    let (mut joiner, ask) = begin(&good, &mut thief);
    let heard = host.asked(Source::Stream(thief.me.peer_id), &ask, NOW + 30, usize::MAX).unwrap();
    assert_eq!(heard.err(), Some(Refusal::Busy), "even the right code waits");
    let back = Source::Stream(host.node.me.peer_id);
    assert!(joiner.handle(JoinerInput::Refused { from: back, refusal: Refusal::Busy }, &thief.install, NOW).is_empty());
    let mut other = Node::new(3);
    assert!(join(&mut host, &good, &mut other).is_ok(), "others do not wait");
    // In all: many thieves, each within its own limit.
    for n in 0..MAX_WRONG_IN_ALL {
        let _ = join(&mut host, &unknown(200), &mut Node::new(10 + u8::try_from(n).unwrap()));
    }
    let mut late = Node::new(4);
    let code = host.code(false);
    let (_, ask) = begin(&code, &mut late);
    let heard = host.asked(Source::Stream(late.me.peer_id), &ask, NOW, usize::MAX).unwrap();
    assert_eq!(heard.err(), Some(Refusal::Busy));
    assert!(join_by(&mut host, &code, &mut late, true, NOW + 60).is_ok(), "a minute later");
}

#[test]
fn other_terms_another_speaker_and_bad_cards_are_refused() {
    let mut host = Host::new();
    let code = host.code(true);
    // A guest's code whose flag was turned: the proof covers the terms that are asked.
    let mut turned = code.clone();
    turned.is_guest = false;
    assert_eq!(refused(join(&mut host, &turned, &mut Node::new(2))), Refusal::Terms);
    // The asking of one node, sent by another.
    let (mut victim, thief) = (Node::new(3), Node::new(4));
    let (_, ask) = begin(&code, &mut victim);
    for from in [Source::Stream(thief.me.peer_id), Source::Letter(thief.npub())] {
        assert_eq!(host.asked(from, &ask, NOW, usize::MAX).unwrap().err(), Some(Refusal::Card));
    }
    // Asked under another install key, with an ended card, with a broken signature.
    let Ok(nips::federation::Message::Answer(answer)) = nips::federation::parse(&ask) else { panic!() };
    let from = Source::Stream(victim.me.peer_id);
    let event = signed(&answer, &thief);
    assert_eq!(host.asked(from, &event, NOW, usize::MAX).unwrap().err(), Some(Refusal::Card));
    let mut ended = Node::new(3);
    ended.me.card = card(&ended.passport, &ended.install, &ended.transport, 9, NOW);
    assert_eq!(refused(join(&mut host, &code, &mut ended)), Refusal::Card);
    let mut broken = ask;
    broken.sig = victim.me.card.sig;
    assert_eq!(host.asked(from, &broken, NOW, usize::MAX).unwrap().err(), Some(Refusal::Forged));
}

#[test]
fn a_removed_node_comes_back_only_when_it_is_meant() {
    let mut host = Host::new();
    let code = host.code(false);
    let mut node = Node::new(2);
    assert!(join(&mut host, &code, &mut node).is_ok());
    assert!(host.node.act(&Act::Remove { node: npub(2) }));
    assert_eq!(refused(join(&mut host, &code, &mut node)), Refusal::Removed, "by the code it had used");
    let other = host.code(false);
    assert_eq!(refused(join(&mut host, &other, &mut node)), Refusal::Removed, "by another one");
    let meant = host.offer(&Offer { readmit: Some(npub(2)), ..Offer::default() });
    assert_eq!(join(&mut host, &meant, &mut node).unwrap().standing, Standing::Sibling);
    assert!(host.node.act(&Act::Remove { node: npub(2) }));
    assert_eq!(refused(join(&mut host, &meant, &mut node)), Refusal::Removed, "once");
}

#[test]
fn the_joiner_believes_the_inviter_alone() {
    let mut host = Host::new();
    let mut liar = Host::new();
    liar.node = Node::new(8).found(None);
    let code = host.code(false);
    let mut node = Node::new(2);
    let (mut joiner, ask) = begin(&code, &mut node);
    let welcome = host.asked(Source::Stream(node.me.peer_id), &ask, NOW, usize::MAX).unwrap().unwrap();
    let back = Source::Stream(host.node.me.peer_id);
    // From another carrier's end, or refused by somebody on the way: as if nothing had come.
    for from in [Source::Stream(liar.node.me.peer_id), Source::Letter(liar.node.npub())] {
        assert!(joiner.handle(JoinerInput::Heard { from, event: &welcome }, &node.install, NOW).is_empty());
        assert!(joiner.handle(JoinerInput::Refused { from, refusal: Refusal::Used }, &node.install, NOW).is_empty());
    }
    // A welcome into the liar's federation, signed by the liar.
    let Ok(nips::federation::Message::Answer(answer)) = nips::federation::parse(&welcome) else { panic!() };
    let Answer::Welcome(real) = *answer else { panic!() };
    let mut other = real.clone();
    other.log = liar.node.log().events();
    other.federation = liar.node.log().federation();
    let (mut doubter, _) = begin(&code, &mut Node::new(2));
    let event = signed(&Answer::Welcome(other), &host.node);
    let failed = doubter.handle(JoinerInput::Heard { from: back, event: &event }, &node.install, NOW);
    assert!(matches!(failed.as_slice(), [JoinerEffect::Failed(JoinError::Welcome(_))]));
    // The same words signed by another install.
    let (mut doubter, _) = (begin(&code, &mut Node::new(2)).0, ());
    let event = signed(&Answer::Welcome(real), &liar.node);
    let failed = doubter.handle(JoinerInput::Heard { from: back, event: &event }, &node.install, NOW);
    assert!(matches!(failed.as_slice(), [JoinerEffect::Failed(JoinError::Welcome(_))]));
    // And the real one is taken.
    let joined = joiner.handle(JoinerInput::Heard { from: back, event: &welcome }, &node.install, NOW);
    assert!(matches!(joined.as_slice(), [JoinerEffect::Joined(_)]));
}

#[test]
fn the_joiner_asks_again_and_gives_up_with_the_code() {
    let mut host = Host::new();
    let code = host.code(false);
    let mut node = Node::new(2);
    let (mut joiner, _) = begin(&code, &mut node);
    assert!(joiner.handle(JoinerInput::Tick, &node.install, NOW + 19).is_empty());
    let again = joiner.handle(JoinerInput::Tick, &node.install, NOW + 20);
    assert!(matches!(again.as_slice(), [JoinerEffect::Ask(_)]));
    let over = joiner.handle(JoinerInput::Tick, &node.install, NOW + 600);
    assert!(matches!(over.as_slice(), [JoinerEffect::Failed(JoinError::NoAnswer)]));
    assert!(joiner.handle(JoinerInput::Tick, &node.install, NOW + 700).is_empty());
    // A node that belongs with others elsewhere does not join; one that is alone does.
    let mut root = Node::new(5).found(None);
    assert_eq!(may_join(root.log.as_ref(), &npub(5), &npub(99)), Ok(()));
    let _ = admit(&mut root, Node::new(6), Role::Guest);
    assert_eq!(may_join(root.log.as_ref(), &npub(5), &npub(99)), Err(JoinError::Elsewhere(2)));
    assert_eq!(may_join(None, &npub(5), &npub(99)), Ok(()));
}

#[test]
fn open_codes_and_members_are_bounded() {
    let mut host = Host::new();
    for _ in 0..MAX_OPEN {
        host.code(true);
    }
    let world = InviterWorld { me: &host.node.me, log: host.node.log(), keyring: &host.node.keyring };
    assert_eq!(host.inviter.open([1; 16], &Offer::default(), &world, NOW).err(), Some(Ended::TooMany));
    assert_eq!(host.inviter.open_codes(NOW), MAX_OPEN);
    assert_eq!(host.inviter.open_codes(NOW + 600), 0);
    let mut host = Host::new();
    for n in 2..=64 {
        assert!(host.node.act(&Act::Join { node: npub(n), role: Role::Guest, invitation: None }));
    }
    let code = host.code(true);
    assert_eq!(refused(join(&mut host, &code, &mut Node::new(100))), Refusal::Full);
    // The welcome of a large federation fits its frame.
    let joined = join(&mut host, &code, &mut Node::new(64)).unwrap();
    assert_eq!(joined.log.members().len(), 64);
}
