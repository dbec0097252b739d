//! `seedmill report`: one file that shows what the queries in it give.

use serde_json::Value;

use crate::fault_server::{FaultServer, Reply};
use crate::pipeline::{MODELS, workspace, writer_and_solver};
use crate::scratch::Scratch;

/// Writes markup into every question.
fn writer_of_markup(body: &Value, nth: u64) -> Reply {
    match writer_and_solver(body, nth) {
        Reply::Answer(text, after) => Reply::Answer(text.replace("Why does", "Why <script>x</script> & does"), after),
        other => other,
    }
}

fn unescape(html: &str) -> String {
    [("&lt;", "<"), ("&gt;", ">"), ("&quot;", "\""), ("&#x27;", "'"), ("&#x2f;", "/"), ("&amp;", "&")]
        .iter()
        .fold(html.to_owned(), |text, (from, to)| text.replace(from, to))
}

/// What stands between each pair of tags, the outermost ones.
fn between<'a>(html: &'a str, open: &str, close: &str) -> Vec<&'a str> {
    html.split(open).skip(1).map(|rest| rest.split(close).next().unwrap()).collect()
}

/// Every tag that opens is closed, in its order.
fn assert_well_formed(html: &str) {
    let mut open = Vec::new();
    for tag in html.split('<').skip(1).filter(|tag| !tag.starts_with('!')) {
        let (tag, _) = tag.split_once('>').unwrap_or_else(|| panic!("<{tag} has no end"));
        let name = tag.split_whitespace().next().unwrap();
        if let Some(name) = name.strip_prefix('/') {
            assert_eq!(open.pop(), Some(name), "</{name}> closes another tag");
        } else if !tag.ends_with('/') && name != "meta" {
            open.push(name);
        }
    }
    assert!(open.is_empty(), "{open:?} are not closed");
}

fn run_id(scratch: &Scratch) -> String {
    scratch.value("SELECT max(run_id) FROM runs")
}

#[test]
fn a_report_is_one_file_whose_figures_are_what_its_queries_give() {
    let server = FaultServer::start(writer_of_markup);
    let scratch = workspace(&server);
    scratch.ok(&[&["run", "--quiet"], &MODELS[..]].concat());
    let asked = server.count();
    let said = scratch.ok(&["report"]);
    let file = format!("{}.html", run_id(&scratch));
    assert_eq!(said.trim(), file);
    let html = std::fs::read_to_string(scratch.path().join(&file)).unwrap();

    assert_well_formed(&html);
    for outside in ["://", "src=", "href=", "url(", "@import", "<script", "<link"] {
        assert!(!html.contains(outside), "{outside} is in the report");
    }
    assert!(html.contains("Why &lt;script&gt;x&lt;&#x2f;script&gt; &amp; does"), "{html}");

    // Every table beside its query, run again.
    let mut compared = 0;
    for section in between(&html, "<section class=\"card", "</section>") {
        let title = between(section, "<h2>", "</h2>")[0];
        let Some(sql) = between(section, "<pre>", "</pre>").first().map(|sql| unescape(sql)) else { continue };
        let rows = scratch.texts(&sql);
        if section.contains("<article>") {
            assert_eq!(between(section, "<article>", "</article>").len(), rows.len(), "{title}");
            compared += 1;
            continue;
        }
        let shown: Vec<Vec<String>> = between(section, "<tr>", "</tr>")
            .into_iter()
            .skip(1)
            .map(|row| {
                between(row, "<td", "</td>").iter().map(|cell| unescape(cell.split_once('>').unwrap().1)).collect()
            })
            .collect();
        assert_eq!(shown.len(), rows.len(), "{title}");
        for (shown, queried) in shown.iter().flatten().zip(rows.iter().flatten()) {
            let queried = if queried == "NULL" { "" } else { queried };
            let is_same = match (shown.parse::<f64>(), queried.parse::<f64>()) {
                (Ok(shown), Ok(queried)) => (shown - queried).abs() < 1e-4,
                _ => shown == queried,
            };
            assert!(is_same, "{title}: {shown} is not {queried}");
            compared += 1;
        }
    }
    assert!(compared > 150, "{compared}");
    assert!(between(&html, "<svg", "</svg>").len() > 10);
    let kept = scratch.value("SELECT count(*) FROM run.curated");
    assert!(html.contains(&format!("<b>{kept}</b>kept")), "{kept}");
    assert_eq!(server.count(), asked);

    // The same run gives the same bytes, named by its id or its folder, from anywhere.
    let id = run_id(&scratch);
    scratch.ok(&["report", &id, "--out", "by_id.html"]);
    scratch.ok(&["report", &format!("runs/{id}"), "--out", "by_folder.html"]);
    for again in ["by_id.html", "by_folder.html"] {
        assert!(std::fs::read_to_string(scratch.path().join(again)).unwrap() == html, "{again}");
    }
    let output = scratch.run(&["report", "20200101T000000000Z-aaaaaa"]);
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(error.contains("there is no published run '20200101T000000000Z-aaaaaa'"), "{error}");
}

#[test]
fn a_report_without_runs_says_so() {
    let scratch = Scratch::new("http://127.0.0.1:1", 1, "");
    let output = scratch.run(&["report"]);
    assert!(String::from_utf8_lossy(&output.stderr).contains("no run is published in"));
}
