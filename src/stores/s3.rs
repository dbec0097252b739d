//! Amazon S3 and servers that speak its protocol.

use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use datafusion::common::{Result, plan_datafusion_err, plan_err};
use object_store::aws::{AmazonS3, AmazonS3Builder, AmazonS3ConfigKey};
use url::Url;

use super::{Variables, aws_profile, named};

/// Where an instance of EC2 asks for its role.
const METADATA: ([u8; 4], u16) = ([169, 254, 169, 254], 80);

/// A bucket's store. Credentials are those of the variables, else of the profile, else a web identity, a container's or
/// an instance's role; `AWS_SKIP_SIGNATURE=true` reads public buckets without any.
pub(super) fn open(url: &Url, variables: &Variables) -> Result<AmazonS3> {
    let bucket = url.host_str().unwrap_or_default();
    let mut builder = AmazonS3Builder::new();
    let profile = if variables.get("AWS_ACCESS_KEY_ID").is_some() && variables.get("AWS_PROFILE").is_none() {
        aws_profile::Profile::new()
    } else {
        aws_profile::read(variables)?
    };
    // Keys of the environment stand over those of a profile.
    if variables.get("AWS_ACCESS_KEY_ID").is_none() && !variables.is_true("AWS_SKIP_SIGNATURE") {
        aws_profile::need_own_keys(&profile, variables)?;
    }
    let mut endpoint = profile.get("endpoint_url").map(String::as_str);
    for (name, key) in [
        ("aws_access_key_id", AmazonS3ConfigKey::AccessKeyId),
        ("aws_secret_access_key", AmazonS3ConfigKey::SecretAccessKey),
        ("aws_session_token", AmazonS3ConfigKey::Token),
        ("region", AmazonS3ConfigKey::Region),
        ("web_identity_token_file", AmazonS3ConfigKey::WebIdentityTokenFile),
    ] {
        if let Some(value) = profile.get(name) {
            builder = builder.with_config(key, value);
        }
    }
    if profile.contains_key("web_identity_token_file") {
        for (name, key) in
            [("role_arn", AmazonS3ConfigKey::RoleArn), ("role_session_name", AmazonS3ConfigKey::RoleSessionName)]
        {
            if let Some(value) = profile.get(name) {
                builder = builder.with_config(key, value);
            }
        }
    }
    for (name, value) in variables.with_prefix("AWS_").filter(|(_, value)| !value.is_empty()) {
        if let Ok(key) = name.to_ascii_lowercase().parse() {
            builder = builder.with_config(key, value);
        }
    }
    for name in ["AWS_ENDPOINT", "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3"] {
        endpoint = variables.get(name).or(endpoint);
    }
    if let Some(endpoint) = endpoint {
        // Who writes http:// means it; requests are signed, and no secret is sent.
        let allow = endpoint.starts_with("http://") && variables.get("AWS_ALLOW_HTTP").is_none();
        builder = builder.with_endpoint(endpoint.trim_end_matches('/'));
        builder = if allow { builder.with_allow_http(true) } else { builder };
    }
    let has = |key| builder.get_config_value(&key).is_some();
    let known = has(AmazonS3ConfigKey::AccessKeyId)
        || variables.is_true("AWS_SKIP_SIGNATURE")
        || has(AmazonS3ConfigKey::WebIdentityTokenFile)
        || has(AmazonS3ConfigKey::ContainerCredentialsRelativeUri)
        || has(AmazonS3ConfigKey::ContainerCredentialsFullUri);
    if !known && !has_instance_role(variables) {
        return plan_err!(
            "there are no credentials for s3://{bucket}: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE, \
             or AWS_SKIP_SIGNATURE=true for a public bucket"
        );
    }
    let store = builder.with_bucket_name(bucket).build();
    store.map_err(|e| plan_datafusion_err!("s3://{bucket} cannot be opened: {}", named::plain(&e)))
}

/// Whether this may be an instance with a role: else the first request would wait for one through all its retries.
fn has_instance_role(variables: &Variables) -> bool {
    if variables.is_true("AWS_EC2_METADATA_DISABLED") {
        return false;
    }
    let told = variables.get("AWS_METADATA_ENDPOINT").is_some();
    told || TcpStream::connect_timeout(&SocketAddr::from(METADATA), Duration::from_secs(1)).is_ok()
}
