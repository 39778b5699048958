//! What the writer thread does to the tables, inside its transaction: taking, replacing, deleting and expiring events
//! (NIP-01, NIP-09, NIP-40, NIP-62).

use std::ops::Bound;

use heed::{PutFlags, RwTxn};
use nostr::{Event, PublicKey};
use url::Url;

use super::filter::hex32;
use super::keys::{self, DELETION, NEVER, VANISH};
use super::note::{Class, Note, Record, letters};
use super::search::is_searchable;
use super::tables::{Disk, Meta, number, place_of};

/// What an index entry costs on disk, roughly, in bytes.
const ENTRY_BYTES: u64 = 60;
/// What a remembered deletion costs on disk, roughly, in bytes.
const TOMBSTONE_BYTES: u64 = 150;
/// The group of strangers' events that remember deletions: they go last.
const GROUP_TOMBSTONES: u8 = 1;

/// What became of an event that was given to the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PublishOutcome {
    /// It is on disk under this sequence number.
    Stored(u64),
    /// It is ephemeral (NIP-01): passed on, not kept.
    Broadcast,
    /// It was there already.
    Duplicate,
    /// A newer event has taken its place (NIP-01).
    Replaced,
    /// Its author deleted it before (NIP-09).
    Deleted,
    /// Its author asked to vanish after it was made (NIP-62).
    Vanished,
    /// It has expired (NIP-40).
    Expired,
    /// It is a gift wrap, and its recipient's quota is used up.
    MailboxFull,
    /// It asks other relays than this one to forget its author (NIP-62).
    OtherRelays,
}

/// What the writer needs to know beside the tables.
#[derive(Clone, Debug, Default)]
pub(crate) struct Rules {
    /// Bytes of gift wraps that one recipient may have here.
    pub(crate) mailbox_bytes: u64,
    /// Bytes of strangers' events.
    pub(crate) stranger_bytes: u64,
    /// Age of strangers' events, in seconds.
    pub(crate) stranger_age_s: u64,
    /// Addresses by which a request to vanish may name this relay.
    pub(crate) names: Vec<Url>,
}

/// One write transaction with the counters that belong to it.
pub(crate) struct Writing<'t, 'd> {
    pub(crate) disk: &'d Disk,
    pub(crate) rules: &'d Rules,
    pub(crate) txn: &'t mut RwTxn<'d>,
    pub(crate) meta: Meta,
    /// Unix seconds.
    pub(crate) now: u64,
}

impl Writing<'_, '_> {
    /// Takes one event. Client policy has been checked before; `trusted` lifts the mailbox quota.
    pub(crate) fn put(&mut self, note: &Note, class: Class, trusted: bool) -> heed::Result<PublishOutcome> {
        let event = &*note.event;
        let kind = event.kind.as_u16();
        if note.expires_at() <= self.now {
            return Ok(PublishOutcome::Expired);
        }
        if keys::is_ephemeral(kind) {
            return Ok(PublishOutcome::Broadcast);
        }
        if self.disk.ids.get(self.txn, event.id.as_bytes())?.is_some() {
            return Ok(PublishOutcome::Duplicate);
        }
        if let Some(refused) = self.remembered(event)? {
            return Ok(refused);
        }
        if kind == VANISH && !self.names_us(event) {
            return Ok(PublishOutcome::OtherRelays);
        }
        if class == Class::Mail && !trusted && !self.mailbox_has_room(note)? {
            return Ok(PublishOutcome::MailboxFull);
        }
        if !self.replace(event)? {
            return Ok(PublishOutcome::Replaced);
        }
        match kind {
            DELETION => self.delete_named(event)?,
            VANISH => self.vanish(event)?,
            _ => {}
        }
        self.insert(note, class).map(PublishOutcome::Stored)
    }

    /// Says whether a deletion or a request to vanish came before this event.
    fn remembered(&self, event: &Event) -> heed::Result<Option<PublishOutcome>> {
        let created_at = event.created_at.as_secs();
        for owner in owners(event) {
            if self.disk.deleted.get(self.txn, &keys::key(event.id.as_bytes(), &owner))?.is_some() {
                return Ok(Some(PublishOutcome::Deleted));
            }
            if self.disk.vanished.get(self.txn, &owner)?.is_some_and(|until| created_at <= number(until)) {
                return Ok(Some(PublishOutcome::Vanished));
            }
        }
        let Some(coordinate) = keys::coordinate_of(event) else { return Ok(None) };
        let until = self.disk.deleted_coordinates.get(self.txn, &coordinate)?;
        Ok(until.is_some_and(|until| created_at <= number(until)).then_some(PublishOutcome::Deleted))
    }

    /// Says whether a request to vanish means this relay (NIP-62).
    fn names_us(&self, event: &Event) -> bool {
        event.tags.iter().map(nostr::Tag::as_slice).any(|tag| match tag {
            [name, value, ..] if name == "relay" => {
                value == "ALL_RELAYS"
                    || Url::parse(value).is_ok_and(|url| self.rules.names.iter().any(|own| same_place(own, &url)))
            }
            _ => false,
        })
    }

    fn mailbox_has_room(&self, note: &Note) -> heed::Result<bool> {
        let size = note.json.len() as u64;
        for recipient in recipients(&note.event) {
            let used = self.disk.mailboxes.get(self.txn, &recipient)?.map_or(0, number);
            if used.saturating_add(size) > self.rules.mailbox_bytes {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Makes room for a replaceable or addressable event; `false` when a newer one is there.
    fn replace(&mut self, event: &Event) -> heed::Result<bool> {
        let Some(coordinate) = keys::coordinate_of(event) else { return Ok(true) };
        let Some(old) = self.disk.coordinates.get(self.txn, &coordinate)?.map(place_of) else { return Ok(true) };
        let sequence = keys::sequence_of(&old);
        let Some(record) = self.disk.events.get(self.txn, &sequence.to_be_bytes())?.and_then(Record::new) else {
            return Ok(true);
        };
        let order = event.created_at.as_secs().cmp(&record.created_at());
        let wins = order.is_gt() || (order.is_eq() && event.id.as_bytes().as_slice() < record.id());
        if wins {
            self.remove(sequence)?;
        }
        Ok(wins)
    }

    /// Carries out a deletion request (NIP-09) and remembers it.
    fn delete_named(&mut self, event: &Event) -> heed::Result<()> {
        let author = event.pubkey.as_bytes();
        for (letter, value) in letters(event) {
            match letter {
                b'e' => {
                    let Some(id) = hex32(value) else { continue };
                    self.delete_id(&id, author)?;
                }
                b'a' => {
                    let Some(coordinate) = own_coordinate(value, author) else { continue };
                    self.delete_coordinate(&coordinate, event.created_at.as_secs())?;
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn delete_id(&mut self, id: &[u8; 32], author: &[u8; 32]) -> heed::Result<()> {
        self.disk.deleted.put(self.txn, &keys::key(id, author), &())?;
        let Some(sequence) = self.disk.ids.get(self.txn, id)?.map(number) else { return Ok(()) };
        let Some(record) = self.disk.events.get(self.txn, &sequence.to_be_bytes())?.and_then(Record::new) else {
            return Ok(());
        };
        let fixed = matches!(record.kind(), DELETION | VANISH);
        let owned = record.event().is_some_and(|event| owners(&event).contains(author));
        if owned && !fixed { self.remove(sequence).map(drop) } else { Ok(()) }
    }

    fn delete_coordinate(&mut self, coordinate: &[u8; 32], until: u64) -> heed::Result<()> {
        let known = self.disk.deleted_coordinates.get(self.txn, coordinate)?.map_or(0, number);
        self.disk.deleted_coordinates.put(self.txn, coordinate, &until.max(known).to_be_bytes())?;
        let Some(sequence) = self.disk.coordinates.get(self.txn, coordinate)?.map(|p| keys::sequence_of(&place_of(p)))
        else {
            return Ok(());
        };
        let record = self.disk.events.get(self.txn, &sequence.to_be_bytes())?.and_then(Record::new);
        let older = record.is_some_and(|record| record.created_at() <= until);
        if older { self.remove(sequence).map(drop) } else { Ok(()) }
    }

    /// Forgets an author up to a time, and the gift wraps to them (NIP-62).
    fn vanish(&mut self, event: &Event) -> heed::Result<()> {
        let author = event.pubkey.as_bytes();
        let until = event.created_at.as_secs();
        let known = self.disk.vanished.get(self.txn, author)?.map_or(0, number);
        self.disk.vanished.put(self.txn, author, &until.max(known).to_be_bytes())?;
        let mine = self.places_until(self.disk.by_author, &keys::author_prefix(author), until)?;
        for sequence in mine {
            let record = self.disk.events.get(self.txn, &sequence.to_be_bytes())?.and_then(Record::new);
            if record.is_some_and(|record| record.author() == author && record.kind() != VANISH) {
                self.remove(sequence)?;
            }
        }
        let mail = self.places_until(self.disk.by_tag, &keys::tag_prefix(b'p', &event.pubkey.to_hex()), until)?;
        for sequence in mail {
            let record = self.disk.events.get(self.txn, &sequence.to_be_bytes())?.and_then(Record::new);
            if record.is_some_and(|record| keys::is_wrap(record.kind())) {
                self.remove(sequence)?;
            }
        }
        Ok(())
    }

    fn places_until(&self, index: super::tables::Index, prefix: &[u8], until: u64) -> heed::Result<Vec<u64>> {
        let start = keys::key(prefix, &(!until).to_be_bytes());
        let end = keys::key(prefix, &[0xff; 24]);
        let range = (Bound::Included(&start[..]), Bound::Included(&end[..]));
        let entries = index.range(self.txn, &range)?;
        entries.map(|entry| entry.map(|(key, ())| keys::sequence_of(&place_of(key)))).collect()
    }

    fn insert(&mut self, note: &Note, class: Class) -> heed::Result<u64> {
        let event = &*note.event;
        let sequence = self.meta.last_sequence + 1;
        let number = sequence.to_be_bytes();
        let place = keys::place(event.created_at.as_secs(), event.id.as_bytes(), sequence);
        let record = note.encode(class, self.now);
        self.disk.events.put_with_flags(self.txn, PutFlags::APPEND, &number, &record)?;
        self.disk.ids.put(self.txn, event.id.as_bytes(), &number)?;
        let mut entries = 4;
        for (index, key) in index_keys(self.disk, event, &place) {
            index.put(self.txn, &key, &())?;
            entries += 1;
        }
        if let Some(coordinate) = keys::coordinate_of(event) {
            self.disk.coordinates.put(self.txn, &coordinate, &place)?;
        }
        let expires_at = note.expires_at();
        if expires_at != NEVER {
            self.disk.expiry.put(self.txn, &keys::key(&expires_at.to_be_bytes(), &number), &())?;
        }
        let bytes = record.len() as u64 + entries * ENTRY_BYTES + tombstones(event) * TOMBSTONE_BYTES;
        self.account(event, class, sequence, bytes, note.json.len() as u64)?;
        self.meta.last_sequence = sequence;
        Ok(sequence)
    }

    fn account(&mut self, event: &Event, class: Class, sequence: u64, bytes: u64, json: u64) -> heed::Result<()> {
        self.meta.events += 1;
        self.meta.bytes += bytes;
        match class {
            Class::Stranger => {
                self.meta.stranger_bytes += bytes;
                let key = keys::key(&[group(event)], &sequence.to_be_bytes());
                self.disk.strangers.put(self.txn, &key, &bytes.to_be_bytes())
            }
            Class::Mail => self.add_mail(event, |used| used.saturating_add(json)),
            Class::Own | Class::People => Ok(()),
        }
    }

    fn add_mail(&mut self, event: &Event, change: impl Fn(u64) -> u64) -> heed::Result<()> {
        for recipient in recipients(event) {
            let used = change(self.disk.mailboxes.get(self.txn, &recipient)?.map_or(0, number));
            if used == 0 {
                self.disk.mailboxes.delete(self.txn, &recipient)?;
            } else {
                self.disk.mailboxes.put(self.txn, &recipient, &used.to_be_bytes())?;
            }
        }
        Ok(())
    }

    /// Removes an event and its index entries; gives the event, if it was there.
    pub(crate) fn remove(&mut self, sequence: u64) -> heed::Result<Option<Event>> {
        let number = sequence.to_be_bytes();
        let Some(record) = self.disk.events.get(self.txn, &number)?.and_then(Record::new) else { return Ok(None) };
        let (class, size, json) = (record.class(), record.len() as u64, record.json().len() as u64);
        let expires_at = record.expires_at();
        let Some(event) = record.event() else { return Ok(None) };
        self.disk.events.delete(self.txn, &number)?;
        self.disk.ids.delete(self.txn, event.id.as_bytes())?;
        let place = keys::place(event.created_at.as_secs(), event.id.as_bytes(), sequence);
        let mut entries = 4;
        for (index, key) in index_keys(self.disk, &event, &place) {
            index.delete(self.txn, &key)?;
            entries += 1;
        }
        if let Some(coordinate) = keys::coordinate_of(&event)
            && self.disk.coordinates.get(self.txn, &coordinate)?.is_some_and(|found| found == place)
        {
            self.disk.coordinates.delete(self.txn, &coordinate)?;
        }
        if expires_at != NEVER {
            self.disk.expiry.delete(self.txn, &keys::key(&expires_at.to_be_bytes(), &number))?;
        }
        if is_searchable(&event) {
            self.meta.last_gone += 1;
            self.disk.gone.put(self.txn, &self.meta.last_gone.to_be_bytes(), &number)?;
        }
        let bytes = size + entries * ENTRY_BYTES + tombstones(&event) * TOMBSTONE_BYTES;
        self.discount(&event, class, sequence, bytes, json)?;
        Ok(Some(event))
    }

    fn discount(&mut self, event: &Event, class: Class, sequence: u64, bytes: u64, json: u64) -> heed::Result<()> {
        self.meta.events = self.meta.events.saturating_sub(1);
        self.meta.bytes = self.meta.bytes.saturating_sub(bytes);
        match class {
            Class::Stranger => {
                self.meta.stranger_bytes = self.meta.stranger_bytes.saturating_sub(bytes);
                let key = keys::key(&[group(event)], &sequence.to_be_bytes());
                self.disk.strangers.delete(self.txn, &key).map(drop)
            }
            Class::Mail => self.add_mail(event, |used| used.saturating_sub(json)),
            Class::Own | Class::People => Ok(()),
        }
    }

    /// Removes up to `max` events whose time has come: expired ones (NIP-40) and strangers' old ones.
    pub(crate) fn purge(&mut self, max: usize) -> heed::Result<usize> {
        let mut due = Vec::new();
        for entry in self.disk.expiry.iter(self.txn)? {
            let (key, ()) = entry?;
            if due.len() >= max || number(&key[..8]) > self.now {
                break;
            }
            due.push(number(&key[8..]));
        }
        let horizon = self.now.saturating_sub(self.rules.stranger_age_s);
        for entry in self.disk.strangers.iter(self.txn)? {
            let (key, _) = entry?;
            let sequence = number(&key[1..]);
            let record = self.disk.events.get(self.txn, &sequence.to_be_bytes())?.and_then(Record::new);
            let old = record.is_none_or(|record| record.received_at() < horizon);
            if key[0] == GROUP_TOMBSTONES || due.len() >= max || !old {
                break;
            }
            due.push(sequence);
        }
        for sequence in &due {
            self.remove(*sequence)?;
        }
        Ok(due.len())
    }

    /// Removes up to `max` of strangers' oldest events while they take more bytes than they may.
    pub(crate) fn evict(&mut self, max: usize) -> heed::Result<usize> {
        let mut over = self.meta.stranger_bytes.saturating_sub(self.rules.stranger_bytes);
        let mut due = Vec::new();
        for entry in self.disk.strangers.iter(self.txn)? {
            let (key, bytes) = entry?;
            if over == 0 || due.len() >= max {
                break;
            }
            over = over.saturating_sub(number(bytes));
            due.push(number(&key[1..]));
        }
        for sequence in &due {
            if let Some(event) = self.remove(*sequence)? {
                self.forget_deletions(&event)?;
            }
        }
        Ok(due.len())
    }

    /// Drops what a deletion request made us remember, when the request itself has to go.
    fn forget_deletions(&mut self, event: &Event) -> heed::Result<()> {
        let author = event.pubkey.as_bytes();
        match event.kind.as_u16() {
            VANISH => self.disk.vanished.delete(self.txn, author).map(drop),
            DELETION => {
                for (letter, value) in letters(event) {
                    match letter {
                        b'e' => {
                            let Some(id) = hex32(value) else { continue };
                            self.disk.deleted.delete(self.txn, &keys::key(&id, author))?;
                        }
                        b'a' => {
                            let Some(coordinate) = own_coordinate(value, author) else { continue };
                            self.disk.deleted_coordinates.delete(self.txn, &coordinate)?;
                        }
                        _ => {}
                    }
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// Drops notes about removed events that the search index has taken in.
    pub(crate) fn forget_gone(&mut self, until: u64) -> heed::Result<usize> {
        let range = (Bound::Unbounded, Bound::Included(&until.to_be_bytes()[..]));
        self.disk.gone.delete_range(self.txn, &range)
    }
}

fn index_keys<'d>(
    disk: &'d Disk,
    event: &Event,
    place: &[u8; 24],
) -> impl Iterator<Item = (&'d super::tables::Index, Vec<u8>)> {
    let author = event.pubkey.as_bytes();
    let kind = event.kind.as_u16();
    let mut out = vec![
        (&disk.by_time, place.to_vec()),
        (&disk.by_author, keys::key(&keys::author_prefix(author), place)),
        (&disk.by_author_kind, keys::key(&keys::author_kind_prefix(author, kind), place)),
        (&disk.by_kind, keys::key(&keys::kind_prefix(kind), place)),
    ];
    out.extend(
        letters(event).map(|(letter, value)| (&disk.by_tag, keys::key(&keys::tag_prefix(letter, value), place))),
    );
    out.into_iter()
}

/// Who may delete an event: its author, and of a gift wrap its recipients (NIP-59).
fn owners(event: &Event) -> Vec<[u8; 32]> {
    let mut out = vec![event.pubkey.to_bytes()];
    if keys::is_wrap(event.kind.as_u16()) {
        out.extend(recipients(event));
    }
    out
}

/// The `p` tags of an event that are public keys, each once.
pub(crate) fn recipients(event: &Event) -> std::collections::BTreeSet<[u8; 32]> {
    let mentioned = letters(event).filter(|(letter, _)| *letter == b'p');
    mentioned.filter_map(|(_, value)| PublicKey::from_hex(value).ok().map(PublicKey::to_bytes)).collect()
}

fn own_coordinate(value: &str, author: &[u8; 32]) -> Option<[u8; 32]> {
    let mut parts = value.splitn(3, ':');
    let kind: u16 = parts.next()?.parse().ok()?;
    let owner = hex32(parts.next()?)?;
    let identifier = parts.next().unwrap_or_default();
    let known = keys::is_addressable(kind) || (keys::is_replaceable(kind) && identifier.is_empty());
    (known && owner == *author).then(|| keys::coordinate_key(kind, author, identifier))
}

fn group(event: &Event) -> u8 {
    u8::from(matches!(event.kind.as_u16(), DELETION | VANISH)) * GROUP_TOMBSTONES
}

fn tombstones(event: &Event) -> u64 {
    match event.kind.as_u16() {
        DELETION => letters(event).filter(|(letter, _)| matches!(letter, b'e' | b'a')).count() as u64,
        VANISH => 1,
        _ => 0,
    }
}

/// Says whether two relay addresses name the same place: host and port, and path without a slash at its end.
pub(crate) fn same_place(a: &Url, b: &Url) -> bool {
    a.host() == b.host()
        && a.port_or_known_default() == b.port_or_known_default()
        && a.path().trim_end_matches('/') == b.path().trim_end_matches('/')
}
