//! The table's columns: entries and vectors as record batches, and back.

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow_array::builder::{FixedSizeListBuilder, Float32Builder, Int8Builder, ListBuilder, StringBuilder};
use arrow_array::{
    Array, ArrayRef, FixedSizeListArray, Float32Array, Int8Array, ListArray, RecordBatch, StringArray, UInt64Array,
};
use arrow_schema::{ArrowError, DataType, Field, Schema, SchemaRef};
use nips::memory::EntryId;
use nostr::PublicKey;

use super::codes::Code;
use super::scan::Row;
use crate::entry::Entry;

pub(super) const ID: &str = "id";
pub(super) const TEXT: &str = "text";
/// Everything but the text: what a start reads.
pub(super) const WITHOUT_TEXT: [&str; 15] = [
    ID,
    "vector",
    "scale",
    "space",
    "kind",
    "author",
    "person",
    "created_at",
    "tags",
    "importance",
    "valid_from",
    "valid_until",
    "supersedes",
    "text_key",
    "numbers_key",
];

/// The schema for vectors of this length. `scale` is none while the embedder has not answered.
pub(super) fn schema(dimensions: usize) -> SchemaRef {
    let strings = || DataType::List(Arc::new(Field::new("item", DataType::Utf8, true)));
    let codes = DataType::FixedSizeList(Arc::new(Field::new("item", DataType::Int8, true)), length(dimensions));
    Arc::new(Schema::new(vec![
        Field::new(ID, DataType::Utf8, false),
        Field::new(TEXT, DataType::Utf8, false),
        Field::new("vector", codes, false),
        Field::new("scale", DataType::Float32, true),
        Field::new("space", DataType::Utf8, false),
        Field::new("kind", DataType::Utf8, false),
        Field::new("author", DataType::Utf8, false),
        Field::new("person", DataType::Utf8, true),
        Field::new("created_at", DataType::UInt64, false),
        Field::new("tags", strings(), false),
        Field::new("importance", DataType::Float32, false),
        Field::new("valid_from", DataType::UInt64, true),
        Field::new("valid_until", DataType::UInt64, true),
        Field::new("supersedes", strings(), false),
        Field::new("text_key", DataType::UInt64, true),
        Field::new("numbers_key", DataType::UInt64, false),
    ]))
}

fn length(dimensions: usize) -> i32 {
    i32::try_from(dimensions).unwrap_or(i32::MAX)
}

/// Entries with their vectors as one batch.
pub(super) fn batch(dimensions: usize, entries: &[(Entry, Option<Code>)]) -> Result<RecordBatch, ArrowError> {
    let each = || entries.iter().map(|(entry, _)| entry);
    let strings =
        |of: &dyn Fn(&Entry) -> String| -> ArrayRef { Arc::new(StringArray::from_iter_values(each().map(of))) };
    let numbers = |of: &dyn Fn(&Entry) -> Option<u64>| -> ArrayRef { Arc::new(UInt64Array::from_iter(each().map(of))) };
    let person = each().map(|entry| entry.person.map(|person| person.to_hex()));
    let importance = each().map(|entry| entry.importance);
    let (vectors, scales) = vectors(dimensions, entries);
    RecordBatch::try_new(
        schema(dimensions),
        vec![
            strings(&|entry| entry.id.to_string()),
            strings(&|entry| entry.text.clone()),
            vectors,
            scales,
            strings(&|entry| entry.space.to_string()),
            strings(&|entry| entry.kind.to_string()),
            strings(&|entry| entry.author.to_hex()),
            Arc::new(StringArray::from_iter(person)),
            numbers(&|entry| Some(entry.created_at)),
            lists(each().map(|entry| entry.tags.iter().cloned().collect())),
            Arc::new(Float32Array::from_iter_values(importance)),
            numbers(&|entry| entry.valid_from),
            numbers(&|entry| entry.valid_until),
            lists(each().map(|entry| entry.supersedes.iter().map(EntryId::to_string).collect())),
            numbers(&|entry| crate::recall::fold::text_key(&entry.text)),
            numbers(&|entry| Some(crate::recall::fold::numbers_key(&entry.text))),
        ],
    )
}

fn vectors(dimensions: usize, entries: &[(Entry, Option<Code>)]) -> (ArrayRef, ArrayRef) {
    let zeros = vec![0_i8; dimensions];
    let values = Int8Builder::with_capacity(dimensions * entries.len());
    let mut vectors = FixedSizeListBuilder::new(values, length(dimensions));
    let mut scales = Float32Builder::with_capacity(entries.len());
    for (_, code) in entries {
        let code = code.as_ref().filter(|code| code.codes.len() == dimensions);
        vectors.values().append_slice(code.map_or(&zeros, |code| &code.codes));
        vectors.append(true);
        scales.append_option(code.map(|code| code.scale));
    }
    (Arc::new(vectors.finish()), Arc::new(scales.finish()))
}

fn lists(rows: impl Iterator<Item = Vec<String>>) -> ArrayRef {
    let mut lists = ListBuilder::new(StringBuilder::new());
    for row in rows {
        row.iter().for_each(|item| lists.values().append_value(item));
        lists.append(true);
    }
    Arc::new(lists.finish())
}

/// The rows of a batch of [`WITHOUT_TEXT`]. A row that makes no sense is an error: the table is derived, and made anew.
pub(super) fn rows(batch: &RecordBatch) -> Result<Vec<Row>, ArrowError> {
    let columns = Columns::of(batch)?;
    (0..batch.num_rows()).map(|at| columns.row(at)).collect()
}

struct Columns<'a> {
    id: &'a StringArray,
    vector: &'a FixedSizeListArray,
    scale: &'a Float32Array,
    space: &'a StringArray,
    kind: &'a StringArray,
    author: &'a StringArray,
    person: &'a StringArray,
    created_at: &'a UInt64Array,
    tags: &'a ListArray,
    importance: &'a Float32Array,
    valid_from: &'a UInt64Array,
    valid_until: &'a UInt64Array,
    supersedes: &'a ListArray,
    text_key: &'a UInt64Array,
    numbers_key: &'a UInt64Array,
}

impl<'a> Columns<'a> {
    fn of(batch: &'a RecordBatch) -> Result<Self, ArrowError> {
        Ok(Self {
            id: column(batch, ID)?,
            vector: column(batch, "vector")?,
            scale: column(batch, "scale")?,
            space: column(batch, "space")?,
            kind: column(batch, "kind")?,
            author: column(batch, "author")?,
            person: column(batch, "person")?,
            created_at: column(batch, "created_at")?,
            tags: column(batch, "tags")?,
            importance: column(batch, "importance")?,
            valid_from: column(batch, "valid_from")?,
            valid_until: column(batch, "valid_until")?,
            supersedes: column(batch, "supersedes")?,
            text_key: column(batch, "text_key")?,
            numbers_key: column(batch, "numbers_key")?,
        })
    }

    fn row(&self, at: usize) -> Result<Row, ArrowError> {
        let code = match optional(self.scale, at).then(|| self.scale.value(at)) {
            Some(scale) => {
                let codes = self.vector.value(at);
                let codes: &Int8Array = cast(codes.as_ref(), "vector")?;
                Some(Code { codes: codes.values().to_vec(), scale })
            }
            None => None,
        };
        let number = |column: &UInt64Array| optional(column, at).then(|| column.value(at));
        let supersedes: BTreeSet<String> = list(self.supersedes, at)?;
        Ok(Row {
            id: self.id.value(at).parse().map_err(|_| wrong(ID))?,
            kind: self.kind.value(at).parse().map_err(|_| wrong("kind"))?,
            space: self.space.value(at).parse().map_err(|_| wrong("space"))?,
            author: PublicKey::from_hex(self.author.value(at)).map_err(|_| wrong("author"))?,
            person: match optional(self.person, at) {
                true => Some(PublicKey::from_hex(self.person.value(at)).map_err(|_| wrong("person"))?),
                false => None,
            },
            tags: list(self.tags, at)?,
            created_at: self.created_at.value(at),
            valid_from: number(self.valid_from),
            valid_until: number(self.valid_until),
            importance: self.importance.value(at),
            supersedes: supersedes
                .iter()
                .map(|id| id.parse().map_err(|_| wrong("supersedes")))
                .collect::<Result<_, _>>()?,
            text_key: number(self.text_key),
            numbers_key: self.numbers_key.value(at),
            code,
        })
    }
}

fn optional(column: &dyn Array, at: usize) -> bool {
    column.is_valid(at)
}

fn list(column: &ListArray, at: usize) -> Result<BTreeSet<String>, ArrowError> {
    let items = column.value(at);
    let items: &StringArray = cast(items.as_ref(), "list")?;
    Ok(items.iter().flatten().map(str::to_owned).collect())
}

/// A column of a batch, as what it should be.
pub(super) fn column<'a, T: 'static>(batch: &'a RecordBatch, name: &str) -> Result<&'a T, ArrowError> {
    let column = batch.column_by_name(name).ok_or_else(|| wrong(name))?;
    cast(column.as_ref(), name)
}

fn cast<'a, T: 'static>(array: &'a dyn Array, name: &str) -> Result<&'a T, ArrowError> {
    array.as_any().downcast_ref().ok_or_else(|| wrong(name))
}

fn wrong(name: &str) -> ArrowError {
    ArrowError::SchemaError(format!("the column {name} is not as it was written"))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::testing::entry;
    use super::*;

    #[test]
    fn rows_come_back_as_they_went() {
        let mut full = entry(1, "Full of everything: 12 things");
        full.tags = ["a".to_owned(), "it's".to_owned()].into();
        full.person = Some(full.author);
        full.valid_from = Some(3);
        full.valid_until = Some(u64::MAX);
        full.supersedes = [entry(2, "x").id].into();
        full.created_at = u64::MAX;
        let plain = entry(3, "?!");
        let code = Code::of(&[0.6, -0.8, 0.0]);
        let batch = batch(3, &[(full.clone(), Some(code.clone())), (plain.clone(), None)]).unwrap();
        let rows = rows(&batch).unwrap();
        assert_eq!(rows, vec![Row::of(&full, Some(code)), Row::of(&plain, None)]);
        assert_eq!(batch.schema(), schema(3));
        assert_eq!(batch.num_columns(), WITHOUT_TEXT.len() + 1);
    }
}
