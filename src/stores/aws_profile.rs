//! A profile of AWS's shared files, `~/.aws/credentials` and `~/.aws/config`: static keys, region and endpoint. Roles,
//! single sign-on and credential processes are left to AWS's own tools (`aws configure export-credentials`).

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
        assert!(of(Some("other")).unwrap_err().to_string().contains("AWS_PROFILE names 'other'"));
    }
}
