//! The id of a published item: the same item has the same id in every run.

use datafusion::arrow::array::{Array, AsArray, ListArray, StringArray, StringBuilder};

/// Domain and version of the hash. Ids are kept outside by users: it never changes.
const DOMAIN: &str = "seedmill item v1";

/// The columns an id is made of.
pub(crate) struct IdParts<'a> {
    pub question: &'a StringArray,
    pub options: &'a ListArray,
    pub answer_text: &'a StringArray,
    pub seed_ids: &'a ListArray,
}

/// `ids` with each NULL replaced by the item's own id: the first 16 bytes of BLAKE3 over question, options,
/// answer_text and seed_ids, as 32 hex digits. Every part goes in with its length, so that no two items share
/// their bytes; NULL is not the empty text.
pub(crate) fn fill_ids(ids: &StringArray, parts: &IdParts<'_>) -> StringArray {
    if ids.null_count() == 0 {
        return ids.clone();
    }
    let mut filled = StringBuilder::with_capacity(ids.len(), ids.len() * 32);
    for row in 0..ids.len() {
        if ids.is_valid(row) {
            filled.append_value(ids.value(row));
            continue;
        }
        let mut hasher = blake3::Hasher::new_derive_key(DOMAIN);
        hash_text(&mut hasher, parts.question, row);
        hash_list(&mut hasher, parts.options, row);
        hash_text(&mut hasher, parts.answer_text, row);
        hash_list(&mut hasher, parts.seed_ids, row);
        filled.append_value(&hasher.finalize().to_hex()[..32]);
    }
    filled.finish()
}

/// The length as little-endian u64, then the bytes; NULL is the length u64::MAX.
fn hash_text(hasher: &mut blake3::Hasher, texts: &StringArray, row: usize) {
    let text = texts.is_valid(row).then(|| texts.value(row).as_bytes());
    hasher.update(&text.map_or(u64::MAX, |text| text.len() as u64).to_le_bytes());
    hasher.update(text.unwrap_or_default());
}

fn hash_list(hasher: &mut blake3::Hasher, lists: &ListArray, row: usize) {
    if lists.is_null(row) {
        hasher.update(&u64::MAX.to_le_bytes());
        return;
    }
    let texts = lists.value(row);
    hasher.update(&(texts.len() as u64).to_le_bytes());
    for item in 0..texts.len() {
        hash_text(hasher, texts.as_string::<i32>(), item);
    }
}

#[cfg(test)]
mod tests {
    use datafusion::arrow::array::{ListBuilder, new_null_array};
    use datafusion::arrow::datatypes::DataType;

    use super::*;

    fn lists(rows: &[Option<&[&str]>]) -> ListArray {
        let mut builder = ListBuilder::new(StringBuilder::new());
        for row in rows {
            builder.append_option(row.map(|items| items.iter().map(|item| Some(*item)).collect::<Vec<_>>()));
        }
        builder.finish()
    }

    #[test]
    fn an_id_never_changes_and_depends_on_each_part_and_its_place() {
        let question = StringArray::from(vec![Some("q"), Some("q"), Some("q"), Some("qa"), Some("q"), None]);
        let options = lists(&[Some(&["a", "b"]), Some(&["ab"]), None, Some(&["b"]), Some(&["a", "b"]), Some(&[])]);
        let answer_text = StringArray::from(vec![Some("a"), Some("a"), Some("a"), Some("a"), Some(""), None]);
        let seed_ids = lists(&[Some(&["s"]), Some(&["s"]), Some(&["s"]), Some(&["s"]), Some(&["s"]), None]);
        let none = new_null_array(&DataType::Utf8, 6);
        let parts = IdParts { question: &question, options: &options, answer_text: &answer_text, seed_ids: &seed_ids };
        let ids = fill_ids(none.as_string(), &parts);
        let distinct: std::collections::BTreeSet<_> = ids.iter().collect();
        assert_eq!(distinct.len(), 6);
        insta::assert_snapshot!(ids.value(0), @"3fd091df7a0b9c0ef7e65c0585bb31af");
    }
}
