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

/// A killer that prints on stderr what XML excludes, what a terminal obeys, what reorders a line, HTML and Markdown,
/// and then fails.
const HOSTILE: &str = r"printf '%b' '\0357\0277\0276\0357\0277\0277\01\010\0177\0302\0233' >&2
    printf '%b' '\033[2J\033]0;owned\07\0342\0200\0256' >&2
    echo '</script><script>alert(1)</script> &lt; ]]> --> | **bold** [a](b) `tick` # @me' >&2; exit 3 # {pgid}";

/// The report as it was written here, and with names from another machine's report.
#[test]
fn whatever_a_program_said_each_format_stays_what_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let (said, file) = (dir.path().join("said.json"), dir.path().join("named.json"));
    let mut command = deadbeat("suite --fixture zombie --format json --output");
    command.arg(&said).args(["--exec", &format!("mine={HOSTILE}")]).assert().code(1);
    let mut report: serde_json::Value = serde_json::from_slice(&std::fs::read(&said).unwrap()).unwrap();
    let why = report["cells"][0]["why"].as_str().unwrap().to_owned();
    assert!(["\u{fffe}\u{ffff}", "\u{202e}", "</script>"].iter().all(|word| why.contains(word)), "{why:?}");
    for name in ["subject", "fixture", "shell"] {
        report["cells"][0][name] = why.as_str().into();
    }
    std::fs::write(&file, report.to_string()).unwrap();
    for file in [said, file] {
        let as_format = |format: &str| {
            let mut command = deadbeat("suite --merge");
            let output = command.arg(&file).args(["--format", format]).assert().code(1).get_output().clone();
            String::from_utf8(output.stdout).unwrap()
        };
        let json: serde_json::Value = serde_json::from_str(&as_format("json")).unwrap();
        assert_eq!((crate::json::faults(&json), &json["cells"][0]["why"]), (vec![], &why.as_str().into()));

        let junit = as_format("junit");
        let document = roxmltree::Document::parse(&junit).unwrap_or_else(|error| panic!("{error}: {junit:?}"));
        assert_eq!(document.descendants().filter(|node| node.has_tag_name("failure")).count(), 1, "{junit}");
        assert!(junit.contains("alert(1)"), "{junit}");

        let markdown = as_format("markdown");
        let prose: String = markdown.split("```").step_by(2).collect();
        for markup in ["<script", "**bold", "[a]", "`tick", " | &#42;", "# @", "@me", "]]>", "-->"] {
            assert!(!prose.contains(markup), "{markup} in {prose}");
        }
        for text in [as_format("table"), markdown] {
            let obeyed = |c: char| (c.is_control() && c != '\n') || matches!(c, '\u{202e}' | '\u{fffe}');
            assert_eq!(text.find(obeyed), None, "{text:?}");
            assert!(text.contains("alert"), "{text}");
        }
    }
}
