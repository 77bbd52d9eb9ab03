//! How many crates the feature adds.

use std::collections::BTreeSet;

use super::outside::{cargo, text};

#[test]
fn the_feature_adds_five_crates_at_most() {
    let crates = |features: &[&str]| -> BTreeSet<String> {
        let output =
            cargo(&["tree", "--offline", "--edges", "normal", "--prefix", "none"]).args(features).output().unwrap();
        assert!(output.status.success(), "{}", text(&output));
        let tree = String::from_utf8(output.stdout).unwrap();
        tree.lines().filter_map(|line| line.split(' ').next()).map(str::to_owned).collect()
    };
    let (without, with) = (crates(&[]), crates(&["--features", "macros"]));
    let added: Vec<_> = with.difference(&without).collect();
    assert!(added.iter().any(|name| *name == "deadbeat-macros") && added.len() <= 5, "{added:?}");
    assert!(!with.contains("syn"), "{with:?}");
}
