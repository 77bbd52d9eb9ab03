//! The other formats, as their readers take them: JUnit parses and counts, Markdown shows what failed.

use crate::support::{FAILING, PASSING, deadbeat, sample};

fn report(cells: &str, format: &str, status: i32) -> String {
    let output = deadbeat(cells).args(["--format", format]).assert().code(status).get_output().clone();
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn junit_counts_a_pass_and_a_failure() {
    for (cells, name, status, failures) in
        [(PASSING, "fast-exit/current-thread/sh", 0, 0), (FAILING, "zombie/sh", 1, 1)]
    {
        let text = report(cells, "junit", status);
        let document = roxmltree::Document::parse(&text).unwrap();
        let root = document.root_element();
        let count = |name: &str| root.attribute(name).and_then(|count| count.parse::<usize>().ok());
        assert_eq!((count("tests"), count("failures"), count("errors")), (Some(1), Some(failures), Some(0)), "{text}");
        let case = document.descendants().find(|node| node.has_tag_name("testcase")).expect("no test");
        assert_eq!(case.attribute("name"), Some(name));
        assert_eq!(case.children().filter(|node| node.has_tag_name("failure")).count(), failures, "{text}");
    }
}

#[test]
fn markdown_shows_what_failed_before_the_matrix_and_nothing_of_it_if_all_is_well() {
    let failed = report(FAILING, "markdown", 1);
    assert!(failed.starts_with("### deadbeat: 1 cell: 0 as expected, 1 failed, 0 inconclusive\n"), "{failed}");
    let fault = failed.find("**fail** mine/zombie: the command ended with").expect("no fault");
    let again = failed.find(" suite --exec mine=").expect("no command");
    assert!(fault < again && again < failed.find("<details>").unwrap(), "{failed}");

    let passed = report(PASSING, "markdown", 0);
    assert!(passed.contains("| fast-exit | terminated |") || passed.contains("| fast-exit | killed |"), "{passed}");
    assert!(!passed.contains("**") && !passed.contains("```"), "{passed}");
}

#[test]
fn hostile_words_are_neither_xml_nor_markdown() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("sample.json");
    std::fs::write(&file, sample()).unwrap();
    let report = |format: &str| {
        let output =
            deadbeat("suite --merge").arg(&file).args(["--format", format]).assert().code(1).get_output().clone();
        String::from_utf8(output.stdout).unwrap()
    };
    let junit = report("junit");
    let document = roxmltree::Document::parse(&junit).unwrap();
    let failure = document.descendants().find(|node| node.has_tag_name("failure")).expect("no failure");
    assert!(failure.text().unwrap().contains("</script><script>alert(1)</script> <!--"), "{junit}");

    let markdown = report("markdown");
    let (prose, commands): (Vec<_>, Vec<_>) =
        markdown.split("```").enumerate().partition::<Vec<_>, _>(|(i, _)| i % 2 == 0);
    assert!(commands.iter().any(|(_, text)| text.contains("--exec '</script>")), "{markdown}");
    assert!(prose.iter().all(|(_, text)| !text.contains("<script") && !text.contains("</script")), "{markdown}");
}
