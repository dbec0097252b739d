//! Reference sets that were indexed in this session, by what is in them.

use std::sync::{Arc, Mutex};

use super::reference::{Reference, ReferenceRow};

/// Queries over one run compare with one reference set, or with a few.
const KEPT: usize = 4;

type Entry = ([u8; 32], Arc<Reference>);

/// The last few indexes, the last used one at the end.
#[derive(Debug, Default)]
pub struct IndexCache(Mutex<Vec<Entry>>);

impl IndexCache {
    /// The index of these rows, in whatever order they come.
    pub fn index_of(&self, mut rows: Vec<ReferenceRow>) -> Arc<Reference> {
        rows.sort_unstable();
        let key = content(&rows);
        // While one is built no other can be found: what waits would only build the same.
        let mut kept = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let entry = match kept.iter().position(|(known, _)| *known == key) {
            Some(at) => kept.remove(at),
            None => (key, Arc::new(Reference::new(rows))),
        };
        let index = Arc::clone(&entry.1);
        kept.push(entry);
        if kept.len() > KEPT {
            kept.remove(0);
        }
        index
    }
}

fn content(rows: &[ReferenceRow]) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new();
    let mut add = |text: Option<&str>| {
        hasher.update(&text.map_or(u64::MAX, |text| text.len() as u64).to_le_bytes());
        hasher.update(text.unwrap_or_default().as_bytes());
    };
    for row in rows {
        let texts = [Some(row.table.as_str()), Some(&row.row), Some(&row.question), row.answer.as_deref()];
        texts.into_iter().for_each(&mut add);
    }
    *hasher.finalize().as_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(question: &str) -> ReferenceRow {
        ReferenceRow { table: "t".into(), row: "1".into(), question: question.into(), answer: None }
    }

    #[test]
    fn the_same_rows_in_another_order_are_one_index() {
        let cache = IndexCache::default();
        let first = cache.index_of(vec![row("a b c"), row("d e f")]);
        assert!(Arc::ptr_eq(&first, &cache.index_of(vec![row("d e f"), row("a b c")])));
        assert!(!Arc::ptr_eq(&first, &cache.index_of(vec![row("a b c")])));
    }
}
