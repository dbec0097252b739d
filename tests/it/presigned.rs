//! Files behind presigned URLs of a bucket, read without any credentials.

use std::time::Duration;

use axum::http::Method;
use object_store::aws::AmazonS3Builder;
use object_store::path::Path;
use object_store::signer::Signer;

use crate::fault_server::{FaultServer, answer};
use crate::s3_server::{Fault, S3Server};
use crate::scratch::Scratch;

/// The URL of a file that may be read for an hour.
fn signed(s3: &S3Server, key: &str) -> String {
    let mut builder = AmazonS3Builder::new().with_bucket_name("bucket").with_allow_http(true);
    for (name, value) in s3.variables() {
        builder = builder.with_config(name.to_ascii_lowercase().parse().unwrap(), value);
    }
    let store = builder.build().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let url = runtime.block_on(store.signed_url(reqwest::Method::GET, &Path::from(key), Duration::from_secs(3600)));
    url.unwrap().to_string()
}

/// What a query says and prints, with all that can be logged.
fn all_of(scratch: &Scratch, arguments: &[&str]) -> String {
    let output = scratch.run_with(("SEEDMILL_LOG", "trace"), arguments);
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

#[test]
fn a_presigned_url_is_a_file_and_its_signature_is_shown_nowhere() {
    let (model, s3) = (FaultServer::start(answer), S3Server::start());
    let rows: String = (1..=20_000).map(|n| format!("{n},word {n}\n")).collect();
    s3.write("in/x 1.csv", format!("n,word\n{rows}"));
    let url = signed(&s3, "in/x 1.csv");
    assert!(url.contains("X-Amz-Signature="), "{url}");
    let scratch = Scratch::new(model.url(), 1, &format!("[tables.mine]\nlocation = \"{url}\"\n"));
    // To be read as Parquet, by ranges.
    let with_keys = Scratch::new(model.url(), 1, "").with_variables(&s3.variables());
    let copy = "COPY (SELECT * FROM 's3://bucket/in/*.csv') TO 's3://bucket/in/x.parquet'";
    with_keys.ok(&["sql", "-c", copy]);
    let parquet = signed(&s3, "in/x.parquet");

    for table in [format!("'{url}'"), format!("'{parquet}'"), "mine".to_owned()] {
        let sql = format!("SELECT count(*) || ' ' || sum(n) || ' ' || max(length(word)) FROM {table}");
        assert_eq!(scratch.value(&sql), "20000 200010000 10", "{table}");
    }
    let created = format!("CREATE EXTERNAL TABLE t STORED AS PARQUET LOCATION '{parquet}'; SELECT count(*) FROM t");
    assert!(scratch.ok(&["sql", "--format", "csv", "-c", &created]).contains("20000"));

    let secret = |url: &str| url.rsplit_once("X-Amz-Signature=").unwrap().1.split('&').next().unwrap().to_owned();
    for (sql, said) in [
        (format!("EXPLAIN SELECT * FROM '{parquet}' WHERE n > 5"), "x.parquet"),
        (format!("EXPLAIN VERBOSE SELECT word FROM (SELECT * FROM '{url}')"), "x%201.csv"),
        (format!("SELECT wrd FROM '{parquet}'"), "did you mean 'word'?"),
        (format!("SELECT FROM '{parquet}' WHERE WHERE"), "LINE 1"),
        (format!("SELECT * FROM '{}'", parquet.replace("x.parquet", "y.parquet")), "y.parquet"),
        (format!("CREATE VIEW v AS SELECT * FROM '{parquet}'; SHOW CREATE TABLE v"), "x.parquet"),
    ] {
        let all = all_of(&scratch, &["sql", "-c", &sql]);
        assert!(all.contains(said), "{said}: {all}");
        for secret in [secret(&parquet), secret(&url)] {
            assert!(!all.contains(&secret), "{sql}: {all}");
        }
    }
    let error =
        all_of(&scratch, &["sql", "-c", &format!("SELECT * FROM '{}'", parquet.replace(&secret(&parquet), "0bad"))]);
    assert!(error.contains("x.parquet does not accept the query of its URL") && !error.contains("0bad"), "{error}");
}

#[test]
fn a_body_that_is_cut_goes_on_and_a_busy_server_is_asked_again() {
    let (model, s3) = (FaultServer::start(answer), S3Server::start());
    let rows: String = (1..=50_000).map(|n| format!("{n}\n")).collect();
    s3.write("in/x.csv", format!("n\n{rows}"));
    let url = signed(&s3, "in/x.csv");
    let scratch = Scratch::new(model.url(), 1, "");
    let mut count = 0;
    s3.fail(move |method, _| {
        assert_eq!(*method, Method::GET);
        count += 1;
        [Some(Fault::Status(503, "SlowDown")), None, Some(Fault::Cut), Some(Fault::ResetBefore)]
            .get(count - 1)
            .copied()?
    });
    assert_eq!(scratch.value(&format!("SELECT count(*) || ' ' || sum(n) FROM '{url}'")), "50000 1250025000");
    assert_eq!(s3.failed(), 3);
}
