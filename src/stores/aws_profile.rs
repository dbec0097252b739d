//! A profile of AWS's shared files, `~/.aws/credentials` and `~/.aws/config`: static keys, a web identity, region and
//! endpoint. Roles, single sign-on and credential processes are left to AWS's own tools (`aws configure
//! export-credentials`), and refused here: the keys beside them are other ones than are meant.

use std::collections::HashMap;
use std::path::PathBuf;

use datafusion::common::{Result, plan_err};

use super::Variables;

/// What a profile says, by the files' own names of keys.
pub(super) type Profile = HashMap<String, String>;

/// The profile that `AWS_PROFILE` names, else `default`. One that is named and in neither file is an error.
pub(super) fn read(variables: &Variables) -> Result<Profile> {
    let named = variables.get("AWS_PROFILE");
    let name = named.unwrap_or("default");
    let file = |variable: &str, usual: &str| {
        let told = variables.get(variable).map(PathBuf::from);
        told.or_else(|| Some(PathBuf::from(variables.get("HOME")?).join(usual)))
    };
    let mut found = None;
    let config_title = if name == "default" { name.to_owned() } else { format!("profile {name}") };
    for (path, title) in [
        (file("AWS_CONFIG_FILE", ".aws/config"), config_title.as_str()),
        // Over the other file, as AWS's own tools read them.
        (file("AWS_SHARED_CREDENTIALS_FILE", ".aws/credentials"), name),
    ] {
        let text = path.and_then(|path| std::fs::read_to_string(path).ok());
        if let Some(section) = text.and_then(|text| section(&text, title)) {
            found.get_or_insert_with(Profile::new).extend(section);
        }
    }
    match (found, named) {
        (Some(found), _) => Ok(found),
        (None, None) => Ok(Profile::new()),
        (None, Some(name)) => {
            plan_err!("AWS_PROFILE names '{name}', which is in neither ~/.aws/credentials nor ~/.aws/config")
        }
    }
}

/// An error where a profile's credentials are not its own keys: AWS's tools look at these ways before they look at keys.
pub(super) fn need_own_keys(profile: &Profile, variables: &Variables) -> Result<()> {
    let has = |key: &str| profile.contains_key(key);
    let way = if has("web_identity_token_file") {
        return Ok(());
    } else if has("role_arn") {
        "takes on a role (role_arn)"
    } else if has("sso_session") || has("sso_start_url") {
        "signs on with a browser (sso_session or sso_start_url)"
    } else if has("credential_process") && !has("aws_access_key_id") {
        "gets its keys from a program (credential_process)"
    } else if has("source_profile") && !has("aws_access_key_id") {
        "has the keys of another (source_profile)"
    } else {
        return Ok(());
    };
    let name = variables.get("AWS_PROFILE").unwrap_or("default");
    plan_err!(
        "the AWS profile '{name}' {way}, which is left to AWS's own program: \
         eval \"$(aws configure export-credentials --profile {name} --format env)\" sets its keys for this shell"
    )
}

/// The keys of an INI section; nested ones, which are indented, are left out.
fn section(text: &str, title: &str) -> Option<Profile> {
    let mut found: Option<Profile> = None;
    let mut inside = false;
    for line in text.lines() {
        let is_nested = line.starts_with([' ', '\t']);
        let line = line.trim();
        if line.starts_with(['#', ';']) || line.is_empty() {
            continue;
        }
        if let Some(name) = line.strip_prefix('[').and_then(|line| line.split(']').next()) {
            inside = name.split_whitespace().eq(title.split_whitespace());
            if inside {
                found.get_or_insert_default();
            }
        } else if let (true, false, Some((key, value))) = (inside, is_nested, line.split_once('=')) {
            found.get_or_insert_default().insert(key.trim().to_ascii_lowercase(), value.trim().to_owned());
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_profile_is_read_from_both_files_and_the_credentials_stand_over_the_config() {
        let home = tempfile::tempdir().unwrap();
        std::fs::create_dir(home.path().join(".aws")).unwrap();
        let write = |name: &str, text: &str| std::fs::write(home.path().join(".aws").join(name), text).unwrap();
        write("config", "[default]\nregion = us-east-1\n[profile lab]\nregion=eu-west-1\ns3 =\n  endpoint_url = no\n");
        write("credentials", "# mine\n[lab]\naws_access_key_id = id\naws_secret_access_key = a=b\n");
        let of = |name: Option<&str>| {
            let mut pairs = vec![("HOME".to_owned(), home.path().to_str().unwrap().to_owned())];
            pairs.extend(name.map(|name| ("AWS_PROFILE".to_owned(), name.to_owned())));
            read(&Variables::of(pairs))
        };
        let lab = of(Some("lab")).unwrap();
        assert_eq!((lab["region"].as_str(), lab["aws_secret_access_key"].as_str()), ("eu-west-1", "a=b"));
        assert!(!lab.contains_key("endpoint_url"));
        assert_eq!(of(None).unwrap()["region"], "us-east-1");
        assert!(need_own_keys(&lab, &Variables::default()).is_ok());
        assert!(of(Some("other")).unwrap_err().to_string().contains("AWS_PROFILE names 'other'"));
    }

    #[test]
    fn a_profile_whose_keys_are_elsewhere_is_refused_with_what_to_do() {
        let way = |text: &str| {
            let profile = section(&format!("[x]\n{text}"), "x").unwrap();
            let variables = Variables::of([("AWS_PROFILE".to_owned(), "x".to_owned())]);
            need_own_keys(&profile, &variables).map_err(|e| e.strip_backtrace())
        };
        let keys = "aws_access_key_id = id\naws_secret_access_key = hush\n";
        // Keys beside a role are those that may take it on, not those that are meant.
        for (text, said) in [
            (format!("{keys}role_arn = arn:aws:iam::1:role/r\nsource_profile = y\n"), "takes on a role"),
            ("sso_session = corp\nsso_account_id = 1\n".into(), "signs on with a browser"),
            ("sso_start_url = https://corp\n".into(), "signs on with a browser"),
            ("credential_process = /bin/keys\n".into(), "gets its keys from a program"),
            ("source_profile = y\n".into(), "has the keys of another"),
        ] {
            let error = way(&text).unwrap_err();
            assert!(error.contains(said) && error.contains("export-credentials --profile x"), "{error}");
            assert!(!error.contains("hush"), "{error}");
        }
        assert!(way(keys).is_ok() && way("region = eu\n").is_ok());
        assert!(way(&format!("{keys}credential_process = /bin/keys\n")).is_ok());
        assert!(way("role_arn = r\nweb_identity_token_file = /token\n").is_ok());
    }
}
