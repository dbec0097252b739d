//! The files of `sql/tasks`, compiled in: name and text, in order of name. A test compares the list with the folder.

macro_rules! files {
    ($($name:literal,)+) => { &[$(($name, include_str!(concat!("../../sql/tasks/", $name)))),+] };
}

pub(crate) const FILES: &[(&str, &str)] = files![
    "answers.sql",
    "arc_multilingual.sql",
    "cieacova.sql",
    "code2text.sql",
    "coqa.sql",
    "drop.sql",
    "ethics.sql",
    "evalita.sql",
    "hellaswag.sql",
    "iberian.sql",
    "japanese.sql",
    "kobest.sql",
    "logiqa.sql",
    "masakhapos.sql",
    "math.sql",
    "mathqa.sql",
    "medical.sql",
    "mmlu.sql",
    "mnli.sql",
    "mutual.sql",
    "norwegian.sql",
    "qasper.sql",
    "super_glue.sql",
    "toxigen.sql",
    "truthfulqa.sql",
    "tydiqa.sql",
    "web_questions.sql",
    "winogrande.sql",
];
