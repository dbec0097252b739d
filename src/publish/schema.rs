//! The fixed Arrow schemas of published files: `curated`, and `rejected`, which adds the reasons.

use std::sync::{Arc, LazyLock};

use datafusion::arrow::datatypes::{DataType, Field, Fields, Schema, SchemaRef};

/// The only split that is ever published.
pub(crate) const SPLIT: &str = "train";

/// The column that says why a row is rejected; last in [`rejected_schema`].
pub(crate) const REASONS: &str = "reasons";

/// A column that the sink reads and does not publish: the text a question is about. It goes into `messages` and
/// `text` where the sink builds them.
pub(crate) const PASSAGE: &str = "passage";

static CURATED: LazyLock<SchemaRef> = LazyLock::new(|| Arc::new(Schema::new(curated_fields())));

static REJECTED: LazyLock<SchemaRef> = LazyLock::new(|| {
    let mut fields = curated_fields();
    fields.push(Field::new(REASONS, texts(), true));
    Arc::new(Schema::new(fields))
});

/// The schema of `data/*.parquet`:
///
/// | column | type | |
/// |---|---|---|
/// | id | TEXT, never NULL | 32 hex digits: BLAKE3 over question, options, answer_text and seed_ids |
/// | text | TEXT | the conversation as running text |
/// | messages | LIST of STRUCT(role, content) | the conversation |
/// | question, answer_text, reasoning | TEXT | |
/// | options, knowledge | TEXT[] | |
/// | task, family, capability, format, language, license | TEXT | |
/// | seed_ids, models | TEXT[] | |
/// | operator | TEXT | how the item was to differ from its seed |
/// | calls | LIST of STRUCT(stage, call_id) | ids of the table `calls` |
/// | votes | STRUCT(winner TEXT, share DOUBLE, n BIGINT, tie BOOLEAN) | |
/// | scores | LIST of STRUCT(name TEXT, value DOUBLE) | a STRUCT of numbers is taken too |
/// | prompt_sha256, config_sha256 | TEXT | |
/// | split | TEXT, never NULL | `train` |
///
/// What is not computed is NULL, never missing. Lists of named values stand where a MAP would, because not every
/// reader of Parquet (`datasets`) takes a MAP.
pub fn curated_schema() -> SchemaRef {
    Arc::clone(&CURATED)
}

/// The schema of `rejected/*.parquet`: [`curated_schema`] and `reasons TEXT[]`, never empty.
pub fn rejected_schema() -> SchemaRef {
    Arc::clone(&REJECTED)
}

/// The fields of one message.
pub(crate) fn message_fields() -> Fields {
    Fields::from(vec![text("role"), text("content")])
}

/// The fields of one score.
pub(crate) fn score_fields() -> Fields {
    Fields::from(vec![text("name"), Field::new("value", DataType::Float64, true)])
}

/// The field of a list's items.
pub(crate) fn item(data_type: DataType) -> Arc<Field> {
    Arc::new(Field::new_list_field(data_type, true))
}

fn curated_fields() -> Vec<Field> {
    let list = |name: &str, fields: Fields| Field::new(name, DataType::List(item(DataType::Struct(fields))), true);
    let text_list = |name: &str| Field::new(name, texts(), true);
    let votes = Fields::from(vec![
        text("winner"),
        Field::new("share", DataType::Float64, true),
        Field::new("n", DataType::Int64, true),
        Field::new("tie", DataType::Boolean, true),
    ]);
    vec![
        Field::new("id", DataType::Utf8, false),
        text("text"),
        list("messages", message_fields()),
        text("question"),
        text_list("options"),
        text("answer_text"),
        text("reasoning"),
        text_list("knowledge"),
        text("task"),
        text("family"),
        text("capability"),
        text("format"),
        text("language"),
        text("license"),
        text_list("seed_ids"),
        text("operator"),
        text_list("models"),
        list("calls", Fields::from(vec![text("stage"), text("call_id")])),
        Field::new("votes", DataType::Struct(votes), true),
        list("scores", score_fields()),
        text("prompt_sha256"),
        text("config_sha256"),
        Field::new("split", DataType::Utf8, false),
    ]
}

fn text(name: &str) -> Field {
    Field::new(name, DataType::Utf8, true)
}

fn texts() -> DataType {
    DataType::List(item(DataType::Utf8))
}
