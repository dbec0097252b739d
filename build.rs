//! The standard pipeline folder is compiled in (`seedmill init` writes it out): build again where a file of it changes.

fn main() {
    println!("cargo:rerun-if-changed=sql");
    println!("cargo:rerun-if-changed=seedmill.toml");
}
