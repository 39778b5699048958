//! The LanceDB table of one generation: one process writes it, through this.

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arrow_array::{Float32Array, RecordBatch, StringArray, UInt64Array};
use futures_util::TryStreamExt;
use lancedb::index::Index;
use lancedb::index::scalar::{FtsIndexBuilder, FullTextSearchQuery};
use lancedb::query::{ExecutableQuery, QueryBase, Select};
use lancedb::table::{CompactionOptions, Duration, OptimizeAction, OptimizeOptions};
use lancedb::{ObjectStoreRegistry, Session, Table};
use nips::memory::EntryId;
use tokio::sync::{RwLock, RwLockReadGuard};

use super::codes::Code;
use super::columns::{self, ID, TEXT, WITHOUT_TEXT};
use super::error::IndexError;
use super::scan::Row;
use crate::entry::Entry;

const TABLE: &str = "entries";
const TEXT_INDEX: &str = "text_idx";
const ROW_ID: &str = "_rowid";
const SCORE: &str = "_score";
/// Up to so many rows are looked up one by one, at some 50 µs each; for more, all ids are read.
const LEARNT_ONE_BY_ONE: usize = 200;
/// A search whose rows were moved while it ran is made again, so many times: compactions are seconds apart, searches milliseconds long.
const MOVED_AWAY_TRIES: u32 = 5;
/// LanceDB's own defaults are 6 GiB and 1 GiB. The full-text index of 100,000 entries takes some 20 MB.
const INDEX_CACHE_BYTES: usize = 64 << 20;
const METADATA_CACHE_BYTES: usize = 16 << 20;
/// Ids named in one delete, so that no statement grows without end.
const DELETED_AT_A_TIME: usize = 500;
/// A file of so many rows is large enough and is not joined with others: a big table is never rewritten for a few new rows.
pub(super) const LARGE_FRAGMENT: usize = 20_000;
/// What is in nearly every English text. Other languages' words are left alone: a stop word of one is a noun of another.
const STOP_WORDS: [&str; 33] = [
    "a", "an", "and", "are", "as", "at", "be", "but", "by", "for", "if", "in", "into", "is", "it", "no", "not", "of",
    "on", "or", "such", "that", "the", "their", "then", "there", "these", "they", "this", "to", "was", "will", "with",
];

/// How many of the parts of the full-text index an update joins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Merge {
    /// New rows become a part of their own.
    None,
    /// New rows and so many of the latest parts become one.
    Latest(usize),
}

/// The table.
pub(super) struct Store {
    table: Table,
    dimensions: usize,
    /// Searches read; pruning, which deletes files that a search may be reading, writes.
    gate: RwLock<()>,
    /// Which entry is at which row of the table. An address is never used again, so what is in here is never wrong, only old after
    /// rows were moved. Reading a hundred scattered ids from the table would take twice as long as the search itself.
    addresses: Mutex<HashMap<u64, EntryId>>,
}

impl Store {
    /// Makes a new table.
    pub(super) async fn create(dir: &Path, dimensions: usize) -> Result<Self, IndexError> {
        let connection = connect(dir).await?;
        let table = connection.create_empty_table(TABLE, columns::schema(dimensions)).execute().await;
        let store = Self::of(table.map_err(open)?, dimensions);
        store.rebuild_text().await?;
        Ok(store)
    }

    /// Opens the table that is there.
    pub(super) async fn open(dir: &Path, dimensions: usize) -> Result<Self, IndexError> {
        let table = connect(dir).await?.open_table(TABLE).execute().await.map_err(open)?;
        let schema = table.schema().await.map_err(open)?;
        if *schema != *columns::schema(dimensions) {
            let message = "the table has other columns".to_owned();
            return Err(open(lancedb::Error::InvalidInput { message }));
        }
        Ok(Self::of(table, dimensions))
    }

    fn of(table: Table, dimensions: usize) -> Self {
        Self { table, dimensions, gate: RwLock::new(()), addresses: Mutex::default() }
    }

    /// Shows every row to `visit`, many at a time.
    pub(super) async fn load(&self, mut visit: impl FnMut(Vec<Row>)) -> Result<(), IndexError> {
        let _reading = self.gate.read().await;
        let query = self.table.query().select(Select::columns(&WITHOUT_TEXT)).with_row_id();
        let mut batches = query.execute().await.map_err(read)?;
        while let Some(batch) = batches.try_next().await.map_err(read)? {
            self.learn(&batch)?;
            visit(columns::rows(&batch).map_err(|error| read(error.into()))?);
        }
        Ok(())
    }

    fn addresses(&self) -> MutexGuard<'_, HashMap<u64, EntryId>> {
        self.addresses.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Remembers which entries are where.
    fn learn(&self, batch: &RecordBatch) -> Result<(), IndexError> {
        self.addresses().extend(addresses(batch)?);
        Ok(())
    }

    /// Learns where every entry is, and forgets where entries were.
    async fn learn_all(&self) -> Result<(), IndexError> {
        let _reading = self.gate.read().await;
        let all = self.where_all().await?;
        *self.addresses() = all;
        Ok(())
    }

    async fn where_all(&self) -> Result<HashMap<u64, EntryId>, IndexError> {
        let query = self.table.query().select(Select::columns(&[ID])).with_row_id();
        let mut batches = query.execute().await.map_err(read)?;
        let mut all = HashMap::new();
        while let Some(batch) = batches.try_next().await.map_err(read)? {
            all.extend(addresses(&batch)?);
        }
        Ok(all)
    }

    /// Which entries are at these rows, and remembers it. The answer is returned, since what is remembered may be replaced at any
    /// time by what was read a moment before.
    async fn learn_some(&self, rows: &[u64]) -> Result<HashMap<u64, EntryId>, IndexError> {
        let found = if rows.len() > LEARNT_ONE_BY_ONE {
            self.where_all().await?
        } else {
            let query = self.table.take_row_ids(rows.to_vec()).select(Select::columns(&[ID])).with_row_id();
            let batches: Vec<RecordBatch> = query.execute().await.map_err(text)?.try_collect().await.map_err(text)?;
            batches.iter().map(addresses).collect::<Result<Vec<_>, _>>()?.into_iter().flatten().collect()
        };
        self.addresses().extend(&found);
        Ok(found)
    }

    /// Writes rows. Whoever calls it knows that none of their ids is in the table.
    pub(super) async fn add(&self, rows: &[(Entry, Option<Code>)]) -> Result<(), IndexError> {
        let batch = columns::batch(self.dimensions, rows).map_err(|error| write(error.into()))?;
        self.table.add(batch).execute().await.map(|_| ()).map_err(write)
    }

    /// Deletes rows. Their bytes leave the disk with the next compaction and pruning.
    pub(super) async fn delete(&self, ids: &[EntryId]) -> Result<(), IndexError> {
        for ids in ids.chunks(DELETED_AT_A_TIME) {
            let ids: Vec<String> = ids.iter().map(|id| format!("'{id}'")).collect();
            self.table.delete(format!("{ID} IN ({})", ids.join(", ")).as_str()).await.map_err(write)?;
        }
        Ok(())
    }

    /// Holds off pruning, and with it the deletion of the folder, while something is read.
    pub(super) async fn reading(&self) -> RwLockReadGuard<'_, ()> {
        self.gate.read().await
    }

    /// Waits until nobody reads, and lets nobody read any more.
    pub(super) async fn unread(&self) -> tokio::sync::RwLockWriteGuard<'_, ()> {
        self.gate.write().await
    }

    /// The best rows by BM25, best first. The caller is [`Store::reading`].
    pub(super) async fn search(&self, words: &str, limit: usize) -> Result<Vec<(EntryId, f32)>, IndexError> {
        let mut tries = 0;
        loop {
            let rows = self.best_rows(words, limit).await?;
            tries += 1;
            // A row without an entry was moved (by a compaction) or deleted since the search began: the next search sees it where it is.
            let ids = match self.whose(&rows).await {
                Err(_) if tries < MOVED_AWAY_TRIES => continue,
                ids => ids?,
            };
            let mut hits: Vec<(EntryId, f32)> =
                rows.iter().zip(&ids).filter_map(|((_, score), id)| Some(((*id)?, *score))).collect();
            if hits.len() == rows.len() || tries == MOVED_AWAY_TRIES {
                hits.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
                return Ok(hits);
            }
        }
    }

    async fn best_rows(&self, words: &str, limit: usize) -> Result<Vec<(u64, f32)>, IndexError> {
        let question = FullTextSearchQuery::new(words.to_owned());
        let query = self.table.query().full_text_search(question).select(Select::columns(&[SCORE])).with_row_id();
        let found = query.limit(limit).execute().await.map_err(text)?;
        let batches: Vec<RecordBatch> = found.try_collect().await.map_err(text)?;
        let mut rows: Vec<(u64, f32)> = Vec::new();
        for batch in &batches {
            let at: &UInt64Array = columns::column(batch, ROW_ID).map_err(|error| text(error.into()))?;
            let scores: &Float32Array = columns::column(batch, SCORE).map_err(|error| text(error.into()))?;
            rows.extend(at.iter().zip(scores).filter_map(|(at, score)| Some((at?, score?))));
        }
        Ok(rows)
    }

    /// The entries at these rows; none where a row is no longer there.
    async fn whose(&self, rows: &[(u64, f32)]) -> Result<Vec<Option<EntryId>>, IndexError> {
        let mut ids: Vec<Option<EntryId>> = {
            let known = self.addresses();
            rows.iter().map(|(at, _)| known.get(at).copied()).collect()
        };
        let unknown: Vec<u64> = rows.iter().zip(&ids).filter(|(_, id)| id.is_none()).map(|((at, _), _)| *at).collect();
        if !unknown.is_empty() {
            let found = self.learn_some(&unknown).await?;
            for ((at, _), id) in rows.iter().zip(&mut ids) {
                *id = id.or_else(|| found.get(at).copied());
            }
        }
        Ok(ids)
    }

    /// Rows that the full-text index does not hold yet.
    pub(super) async fn unindexed(&self) -> Result<usize, IndexError> {
        let stats = self.table.index_stats(TEXT_INDEX).await.map_err(read)?;
        Ok(match stats {
            Some(stats) => stats.num_unindexed_rows,
            None => self.table.count_rows(None).await.map_err(read)?,
        })
    }

    /// Takes new rows into the full-text index.
    pub(super) async fn refresh(&self, merge: Merge) -> Result<(), IndexError> {
        let options = match merge {
            Merge::None => OptimizeOptions::append(),
            Merge::Latest(parts) => OptimizeOptions::merge(parts),
        };
        Box::pin(self.table.optimize(OptimizeAction::Index(options))).await.map_err(refresh)?;
        self.learn_all().await
    }

    /// Makes the full-text index anew: it holds the words of no row that is gone.
    pub(super) async fn rebuild_text(&self) -> Result<(), IndexError> {
        let words = STOP_WORDS.map(str::to_owned).to_vec();
        // `icu/split` finds the words of scripts without spaces; for others it is the same as `simple`.
        let tokens = FtsIndexBuilder::default().base_tokenizer("icu/split".to_owned()).custom_stop_words(Some(words));
        let build = self.table.create_index(&[TEXT], Index::FTS(tokens)).replace(true);
        Box::pin(build.name(TEXT_INDEX.to_owned()).execute()).await.map(|_| ()).map_err(refresh)
    }

    /// The files of the table: their numbers and how many rows each has.
    pub(super) async fn fragments(&self) -> Result<Vec<(u64, usize)>, IndexError> {
        let Some(dataset) = self.table.dataset() else { return Ok(Vec::new()) };
        let dataset = dataset.get().await.map_err(read)?;
        Ok(dataset.fragments().iter().map(|f| (f.id, f.num_rows().unwrap_or(usize::MAX))).collect())
    }

    /// Joins small files, leaving out those numbered below `from`. With `all_deleted` the bytes of deleted rows leave every file.
    pub(super) async fn compact(&self, from: u64, all_deleted: bool) -> Result<(), IndexError> {
        let left_out = self.fragments().await?.into_iter().map(|(id, _)| id).filter(|id| *id < from);
        let options = CompactionOptions {
            target_rows_per_fragment: LARGE_FRAGMENT,
            materialize_deletions_threshold: if all_deleted { 0.0 } else { 0.1 },
            num_threads: Some(1),
            excluded_fragment_ids: left_out.filter_map(|id| u32::try_from(id).ok()).collect(),
            ..CompactionOptions::default()
        };
        let action = OptimizeAction::Compact { options, remap_options: None };
        Box::pin(self.table.optimize(action)).await.map_err(compact)?;
        self.learn_all().await
    }

    /// Deletes every version but the newest. The caller sees to it that nobody writes meanwhile.
    pub(super) async fn prune(&self) -> Result<(), IndexError> {
        let _alone = self.gate.write().await;
        let action = OptimizeAction::Prune {
            older_than: Some(Duration::zero()),
            // Files of no version are leftovers of a crash: nobody else writes here.
            delete_unverified: Some(true),
            error_if_tagged_old_versions: None,
        };
        Box::pin(self.table.optimize(action)).await.map(|_| ()).map_err(prune)
    }
}

/// Which entries are at which rows of a batch of ids.
fn addresses(batch: &RecordBatch) -> Result<Vec<(u64, EntryId)>, IndexError> {
    let at: &UInt64Array = columns::column(batch, ROW_ID).map_err(|error| read(error.into()))?;
    let ids: &StringArray = columns::column(batch, ID).map_err(|error| read(error.into()))?;
    Ok(at.iter().zip(ids).filter_map(|(at, id)| Some((at?, id?.parse().ok()?))).collect())
}

async fn connect(dir: &Path) -> Result<lancedb::Connection, IndexError> {
    let registry = Arc::new(ObjectStoreRegistry::default());
    let session = Arc::new(Session::new(INDEX_CACHE_BYTES, METADATA_CACHE_BYTES, registry));
    Box::pin(lancedb::connect(&dir.to_string_lossy()).session(session).execute()).await.map_err(open)
}

fn open(error: lancedb::Error) -> IndexError {
    IndexError::Open(Box::new(error))
}

fn read(error: lancedb::Error) -> IndexError {
    IndexError::Read(Box::new(error))
}

fn write(error: lancedb::Error) -> IndexError {
    IndexError::Write(Box::new(error))
}

fn text(error: lancedb::Error) -> IndexError {
    IndexError::Text(Box::new(error))
}

fn refresh(error: lancedb::Error) -> IndexError {
    IndexError::Refresh(Box::new(error))
}

fn compact(error: lancedb::Error) -> IndexError {
    IndexError::Compact(Box::new(error))
}

fn prune(error: lancedb::Error) -> IndexError {
    IndexError::Prune(Box::new(error))
}
