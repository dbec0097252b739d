use std::collections::BTreeMap;
use std::path::PathBuf;

use arrow::array::{
    Array, Float32Array, Int32Array, ListArray, RecordBatch, StringArray, StringViewArray, StructArray,
};
use arrow::datatypes::{Field, Int64Type};
use datafusion_common::config::ConfigOptions;
use datafusion_expr::{ColumnarValue, ScalarFunctionArgs};
use proptest::prelude::*;

use super::*;
use crate::function::text;

/// JSON is also an expression of the template language, given a name for null.
fn json(text: &str) -> Value {
    let expression = ENGINE.compile_expression(text).unwrap();
    expression.eval(Value::from_pairs([("null", ())])).unwrap()
}

fn call(function: &'static Definition, template: &str, values: StructArray) -> Result<Vec<Option<String>>> {
    let rows = values.len();
    let arguments = vec![
        ColumnarValue::Scalar(ScalarValue::Utf8View(Some(template.to_string()))),
        ColumnarValue::Array(Arc::new(values)),
    ];
    let result = crate::function::scalar(function).invoke_with_args(ScalarFunctionArgs {
        arg_fields: arguments.iter().map(|a| Arc::new(Field::new("a", a.data_type(), true))).collect(),
        args: arguments,
        number_rows: rows,
        return_field: Arc::new(Field::new("r", text(), true)),
        config_options: Arc::new(ConfigOptions::default()),
    })?;
    let array = result.into_array(rows)?;
    let texts = array.as_any().downcast_ref::<StringViewArray>().unwrap();
    Ok(texts.iter().map(|text| text.map(str::to_string)).collect())
}

fn batch(columns: Vec<(&str, ArrayRef)>) -> StructArray {
    RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(n, c)| (n, c, true))).unwrap().into()
}

#[test]
fn arrow_values_are_written_as_python_writes_them() {
    let lists = ListArray::from_iter_primitive::<Int64Type, _, _>([Some(vec![Some(1), None]), None]);
    let inner = batch(vec![("text", Arc::new(StringViewArray::from(vec!["it's", "x"])))]);
    let values = batch(vec![
        ("q", Arc::new(StringArray::from(vec![Some("a\n"), None])) as ArrayRef),
        ("n", Arc::new(Int32Array::from(vec![7, 8]))),
        ("f", Arc::new(Float32Array::from(vec![0.5, 1e20]))),
        ("l", Arc::new(lists)),
        ("s", Arc::new(inner)),
    ]);
    let rendered = call(&JINJA, "{{q}}|{{n}}|{{f}}|{{l}}|{{s}}|{{s.text}}\n", values).unwrap();
    assert_eq!(rendered[0].as_deref(), Some("a\n|7|0.5|[1, None]|{'text': \"it's\"}|it's\n"));
    assert_eq!(rendered[1].as_deref(), Some("None|8|1.0000000200408773e+20|None|{'text': 'x'}|x\n"));
}

#[test]
fn an_undefined_variable_is_named_with_its_line() {
    let values = || batch(vec![("q", Arc::new(StringArray::from(vec!["a"])) as ArrayRef)]);
    let error = call(&JINJA, "{{q}}\n{{ quesiton }}", values()).unwrap_err().to_string();
    assert!(error.contains("line 2") && error.contains("quesiton"), "{error}");
    assert_eq!(call(&TRY_JINJA, "{{q}}\n{{ quesiton }}", values()).unwrap(), [None]);
}

#[test]
fn only_the_rows_that_cannot_be_rendered_are_null() {
    let lists = ListArray::from_iter_primitive::<Int64Type, _, _>([Some(vec![Some(1)]), Some(vec![])]);
    let values = batch(vec![("l", Arc::new(lists) as ArrayRef)]);
    assert_eq!(call(&TRY_JINJA, "{{l[0]}}", values).unwrap(), [Some("1".to_string()), None]);
}

#[test]
fn bad_syntax_is_refused_at_planning_with_its_line() {
    let template = ScalarValue::from("fine\n{% if %}");
    let error = check(&[Some(&template), None]).unwrap_err().to_string();
    assert!(error.contains("line 2"), "{error}");
}

#[test]
fn an_endless_template_is_stopped() {
    let error = render("{% for i in range(99999) %}{% for j in range(99999) %}x{% endfor %}{% endfor %}", json("{}"));
    assert!(error.unwrap_err().contains("too much work"));
}

#[test]
fn files_cannot_be_read() {
    assert!(render("{% include 'Cargo.toml' %}", json("{}")).is_err());
}

#[test]
fn the_variables_of_a_template_are_those_from_outside() {
    let names = template_variables("{% for o in options %}{{o}}{{ range(3) }}{% endfor %}{{ question.text }}").unwrap();
    assert_eq!(names, ["options", "question"]);
    assert_eq!(template_variables("{{ premise[:-1] }}{{ a.b[1:n] }}").unwrap(), ["a", "n", "premise"]);
    assert!(template_variables("{{ a ").is_err());
}

#[test]
fn python_methods_and_the_harness_filter_work() {
    let values = || json(r#"{"l": ["a", "b"], "s": " x-1 y-2 ", "f": 1e16}"#);
    let of = |template| render(template, values()).unwrap();
    assert_eq!(of("{{ l.index('b') }}{{ s.strip().index('y') }}{{ s.split() }}"), "14['x-1', 'y-2']");
    assert_eq!(of(r"{{ s | regex_replace('(\\w)-(\\d)', '\\2\\g<1>') }}"), " 1x 2y ");
    assert_eq!(of("{{ f | string }}"), "1e+16");
    assert!(render("{{ l.index('c') }}", values()).is_err());
}

#[test]
fn a_template_of_one_expression_is_a_list_without_the_way_through_text() {
    let values = || {
        let lists = ListArray::from_iter_primitive::<Int64Type, _, _>([Some(vec![Some(1), None])]);
        batch(vec![
            ("a", Arc::new(StringArray::from(vec!["it's\n"])) as ArrayRef),
            ("n", Arc::new(lists)),
            ("t", Arc::new(StringArray::from(vec!["['x', 'y']"]))),
        ])
    };
    let of = |template: &str| list(template, values());
    let texts = |items: &[&str]| Some(items.iter().map(|i| Some((*i).to_owned())).collect::<Vec<_>>());
    assert_eq!(of("{{ [a, 'b'] | map('upper') }}"), texts(&["IT'S\n", "B"]));
    assert_eq!(of("{{ n }}"), Some(vec![Some("1".to_owned()), None]));
    assert_eq!(of("{{ t }}"), texts(&["x", "y"]));
    assert_eq!(of("[\"{{ n[0] }}\", '''{{ a[:-1] }}']''']"), texts(&["1", "it's']"]));
    for none in ["{{ a }}", "{{ missing }}", "{{ {'a': 1} }}", "[{{ a }}]", "plain"] {
        assert_eq!(of(none), None, "{none}");
    }
}

#[test]
fn a_format_text_that_minijinja_would_panic_on_is_an_error() {
    let of = |template: &str| render(template, json(r#"{"a": {"k": 1}}"#));
    for (template, text) in [
        ("{{ '{a[k]:>3}é{{[é]}}'.format(a=a) }}", "  1é{[é]}"),
        ("{{ '{:é>3}'.format(7) }}", "éé7"),
        ("{{ '%(k)d%% (é)' | format(a) }}", "1% (é)"),
    ] {
        assert_eq!(of(template).unwrap(), text, "{template}");
    }
    for template in [
        "{{ '{a[é]}'.format(a=a) }}",
        "{{ '{0[k].b[é'.format(a) }}",
        "{{ '%(é)s' | format(a) }}",
        "{{ '{:>99999999999999}'.format(1) }}",
        "{{ '{:.99999999999999f}'.format(1) }}",
        "{{ '%99999999999999d' | format(1) }}",
    ] {
        assert!(of(template).is_err(), "{template}");
    }
}

#[test]
fn an_endless_list_is_stopped() {
    let values = || batch(vec![("a", Arc::new(StringArray::from(vec!["x"])) as ArrayRef)]);
    let endless = "{% for i in range(99999) %}{% for j in range(99999) %}x{% endfor %}{% endfor %}";
    assert_eq!(list(endless, values()), None);
    assert_eq!(list("{{ [a * 2000000000] }}", values()), None);
}

/// `try_jinja_list` over one row.
fn list(template: &str, values: StructArray) -> Option<Vec<Option<String>>> {
    let arguments = vec![
        ColumnarValue::Scalar(ScalarValue::Utf8View(Some(template.to_string()))),
        ColumnarValue::Array(Arc::new(values)),
    ];
    let lists = (TRY_JINJA_LIST.invoke)(&Arguments::new("try_jinja_list", arguments, 1).unwrap()).unwrap();
    let lists = lists.as_any().downcast_ref::<ListArray>().unwrap();
    let items = lists.is_valid(0).then(|| lists.value(0))?;
    let items = items.as_any().downcast_ref::<StringViewArray>().unwrap().clone();
    Some(items.iter().map(|item| item.map(str::to_owned)).collect())
}

proptest! {
    #[test]
    fn no_template_panics(template in r"(\{\{|\}\}|\{%|%\}| |q|l|\.|\[|\]|for|in|if|endif|endfor|[0-9]|'|\||~|\+|-|\*|\(|\)|index|\n|.){0,40}") {
        let _ = render(&template, json(r#"{"q": "text", "l": [1, "é", null]}"#));
        let _ = template_variables(&template);
        let values = batch(vec![("q", Arc::new(StringArray::from(vec!["text"])) as ArrayRef)]);
        let template = ScalarValue::Utf8View(Some(template));
        let arguments = vec![ColumnarValue::Scalar(template), ColumnarValue::Array(Arc::new(values))];
        let _ = (TRY_JINJA_LIST.invoke)(&Arguments::new("try_jinja_list", arguments, 1).unwrap());
    }

    #[test]
    fn no_filter_or_method_panics_whatever_its_value(
        filter in r"(upper|length|list|sort|join|int|float|round|tojson|string|first|last|unique|batch\(2\)|slice\(3\)|replace\('a','b'\)|regex_replace\('\(a', ''\)|items|min|abs|trim|indent\(9\)|format\(1\)|format\(\{'é': 1\}\))",
        method in r"(|\.strip\(\)|\.split\(''\)|\.index\(1\)|\[1:-9\]|\[99\]|\.format\(1\)|\.format\(a=\[1\]\)|\.replace\('', 'x'\)|\.isdigit\(\)|\.count\(''\))",
        text in prop_oneof![any::<String>(), r"(\{|\}|%|\[|\]|\(|\)|:|!|\.|a|0|9|s|>|é|¡|.){0,16}"],
    ) {
        let template = format!("{{{{ (v{method}) | {filter} }}}}{{% for x in v{method} %}}{{{{ x }}}}{{% endfor %}}");
        let numbers = [Value::from(f64::NAN), Value::from(i64::MIN), Value::from(())];
        for value in numbers.into_iter().chain([Value::from(text.clone()), Value::from(vec![text.clone()])]) {
            let _ = render(&template, Value::from_pairs([("v", value)]));
        }
    }
}

/// The golden renderings of the harness, or None where the folder of shared data is absent.
fn golden(file: &str) -> Option<String> {
    let shared = std::env::var_os("SEEDMILL_SHARED")
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../shared"), PathBuf::from);
    if !shared.is_dir() {
        println!("skipped: the folder of shared test data is absent");
        return None;
    }
    Some(std::fs::read_to_string(shared.join("golden").join(file)).unwrap())
}

/// The harness reads a rendered number, list or dict back as a Python value, so that the golden value has a type;
/// written as Python writes it, it is the rendered text again.
fn golden_text(value: &Value) -> String {
    let mut text = String::new();
    python_text::write_str(&mut text, value).unwrap();
    text
}

fn compare_with_golden(file: &str, enough: usize) {
    let Some(lines) = golden(file) else { return };
    let mut headers: BTreeMap<String, Value> = BTreeMap::new();
    let (mut compared, mut wrong) = (0, Vec::new());
    for line in lines.lines() {
        let row = json(line);
        let attr = |name| row.get_attr(name).unwrap();
        let task = attr("task").to_string();
        if attr("header").is_true() {
            headers.insert(task, attr("config"));
            continue;
        }
        let config = &headers[&task];
        if attr("dropped_by_process_docs").is_true() {
            continue;
        }
        for field in ["doc_to_text", "doc_to_target", "doc_to_choice"] {
            let template = config.get_attr(field).unwrap();
            let Some(template) = template.as_str().filter(|text| text.contains("{{") || text.contains("{%")) else {
                continue;
            };
            if attr("errors").get_attr(field).is_ok_and(|error| error.is_true()) {
                continue;
            }
            compared += 1;
            let expected = golden_text(&attr(field));
            match render(template, attr("doc")) {
                Ok(rendered) if rendered == expected => {}
                other => wrong.push(format!(
                    "{task} row {} {field}\n template {template:?}\n expected {expected:?}\n rendered {other:?}",
                    attr("row")
                )),
            }
        }
    }
    println!("{file}: {compared} renderings compared");
    assert!(wrong.is_empty(), "{} of {compared} differ:\n{}", wrong.len(), wrong.join("\n"));
    assert!(compared >= enough, "only {compared} renderings were compared");
}

#[test]
fn shared_real_rows_render_as_in_the_harness() {
    compare_with_golden("real.jsonl", 100);
}

#[test]
fn shared_synthetic_rows_render_as_in_the_harness() {
    compare_with_golden("synthetic.jsonl", 500);
}
