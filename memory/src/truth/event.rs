//! Events from the columns they rest in, and back.

use nips::memory::{ActorId, Change, DocumentId, Space};
use nostr::secp256k1::schnorr::Signature;
use nostr::{Event, EventBuilder, PublicKey, Timestamp};
use rusqlite::Row;

use super::{Seal, TruthError};

/// One row of `changes`, opened.
pub(super) struct Stored {
    pub number: i64,
    pub document: DocumentId,
    pub actor: ActorId,
    pub seq: u64,
    pub hash: [u8; 32],
    pub created_at: u64,
    pub signature: [u8; 64],
    pub frame: Vec<u8>,
}

/// The columns that [`Stored::read`] wants, of `changes c JOIN documents d ON d.number = c.document`.
pub(super) const COLUMNS: &str = "c.number, c.id, d.name, c.actor, c.seq, c.hash, c.created_at, c.signature, c.frame";

pub(super) fn damaged(what: &str) -> TruthError {
    TruthError::Damaged(what.to_owned())
}

impl Stored {
    /// Reads and opens a row.
    pub fn read(row: &Row<'_>, seal: &Seal) -> Result<Self, TruthError> {
        let id: [u8; 32] = row.get(1)?;
        let name: String = row.get(2)?;
        let actor: [u8; 48] = row.get(3)?;
        let seq: i64 = row.get(4)?;
        let created_at: i64 = row.get(6)?;
        let sealed: Vec<u8> = row.get(8)?;
        let frame = seal.open(&id, &sealed).ok_or_else(|| damaged("a change"))?;
        Ok(Self {
            number: row.get(0)?,
            document: name.parse()?,
            actor: actor_of(actor)?,
            seq: u64::try_from(seq).map_err(|_| damaged("a sequence number"))?,
            hash: row.get(5)?,
            created_at: u64::try_from(created_at).map_err(|_| damaged("a time"))?,
            signature: row.get(7)?,
            frame,
        })
    }

    /// The change, opened.
    pub fn change(&self) -> Result<Change, TruthError> {
        let event = self.event()?;
        match nips::memory::Message::parse(&event)? {
            nips::memory::Message::Change(change) => Ok(change),
            nips::memory::Message::Tombstone(_) => Err(damaged("a change")),
        }
    }

    /// The event, as it was signed.
    pub fn event(&self) -> Result<Event, TruthError> {
        let mut key = [0; 32];
        key.copy_from_slice(&self.actor.as_bytes()[..32]);
        let author = PublicKey::from_byte_array(key);
        let builder = Change::to_event(&self.document, &self.actor, self.seq, &self.hash, &self.frame);
        made_again(builder, author, self.created_at, &self.signature)
    }
}

/// The event of a tombstone, as it was signed.
pub(super) fn tombstone(
    space: &Space,
    content: &str,
    signer: [u8; 32],
    created_at: u64,
    signature: &[u8; 64],
) -> Result<Event, TruthError> {
    let document = DocumentId::Forgotten { space: space.clone() }.to_string();
    let builder = EventBuilder::new(nostr::Kind::from_u16(nips::memory::KIND_MEMORY), content)
        .tag(nostr::Tag::identifier(document));
    made_again(builder, PublicKey::from_byte_array(signer), created_at, signature)
}

fn made_again(
    builder: EventBuilder,
    author: PublicKey,
    created_at: u64,
    signature: &[u8; 64],
) -> Result<Event, TruthError> {
    let mut unsigned = builder.custom_created_at(Timestamp::from(created_at)).build(author);
    let id = unsigned.id();
    let signature = Signature::from_slice(signature).map_err(|_| damaged("a signature"))?;
    Ok(Event::new(id, author, unsigned.created_at, unsigned.kind, unsigned.tags.to_vec(), unsigned.content, signature))
}

fn actor_of(bytes: [u8; 48]) -> Result<ActorId, TruthError> {
    let mut key = [0; 32];
    key.copy_from_slice(&bytes[..32]);
    let mut start = [0; 16];
    start.copy_from_slice(&bytes[32..]);
    Ok(ActorId::new(&PublicKey::from_byte_array(key), start))
}

/// True when the event says nothing beside what is kept of it: only then it can be made again to the byte.
pub(super) fn is_canonical(event: &Event, change: &Change) -> bool {
    let Some(document) = event.tags.first() else { return false };
    event.tags.len() == 4
        && document.as_slice() == ["d".to_owned(), change.document.to_string()]
        && event.tags.get(1).is_some_and(|t| t.as_slice() == ["actor".to_owned(), change.actor.to_string()])
        && event.tags.get(2).is_some_and(|t| t.as_slice() == ["seq".to_owned(), change.seq.to_string()])
        && event.tags.get(3).is_some_and(|t| t.as_slice() == ["x".to_owned(), hex::encode(change.hash)])
}

/// All tombstones of a store, as they were signed.
pub(super) fn tombstones(connection: &rusqlite::Connection) -> Result<Vec<Event>, TruthError> {
    let mut found = connection.prepare("SELECT space, content, signer, created_at, signature FROM tombstones")?;
    let mut rows = found.query([])?;
    let mut all = Vec::new();
    while let Some(row) = rows.next()? {
        let space: String = row.get(0)?;
        let content: String = row.get(1)?;
        let at: i64 = row.get(3)?;
        let at = u64::try_from(at).map_err(|_| damaged("a time"))?;
        all.push(tombstone(&space.parse()?, &content, row.get(2)?, at, &row.get(4)?)?);
    }
    Ok(all)
}
