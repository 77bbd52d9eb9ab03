//! The peers that are compared, and what each does *not* promise: what a peer does not promise is no failure of its.

use std::io;
use std::time::Duration;

use tokio::process::Command;

use crate::adapters;
use crate::started::Started;

pub(crate) struct Peer {
    pub(crate) name: &'static str,
    /// Its crate, whose version the lock file knows; `None` for a program and for a function without a crate.
    pub(crate) package: Option<&'static str>,
    pub(crate) docs: &'static str,
    pub(crate) start: fn(Command, Duration) -> io::Result<Started>,
    /// What else its results depend on.
    pub(crate) how: fn() -> String,
    pub(crate) not_promised: &'static [NotPromised],
}

/// Fixtures for which a peer's documentation promises no right end, and where it says so.
pub(crate) struct NotPromised {
    pub(crate) fixtures: &'static [&'static str],
    pub(crate) why: &'static str,
    pub(crate) link: &'static str,
}

/// Of these the leader obeys, or has ended already, and another member has not.
const OUTLIVED: &[&str] = &["stubborn-child", "late-fork", "double-fork"];

const NO_SIGCONT: &str = "it sends the signals that it is told to, and no SIGCONT";

/// What every cell has to catch: else none of them proves anything.
pub(crate) const CONTROL: &str = "the naive body";

pub(crate) const ALL: &[Peer] = &[
    Peer {
        name: "deadbeat",
        package: Some("deadbeat"),
        docs: "../README.md#which-call",
        start: adapters::deadbeat::start,
        how: String::new,
        not_promised: &[],
    },
    Peer {
        name: "deadbeat KillThread",
        package: Some("deadbeat"),
        docs: "../README.md#which-call",
        start: adapters::kill_thread::start,
        how: String::new,
        not_promised: &[],
    },
    // Its child "ensures that all processes in the group are reaped", and its `wait` is command-group's.
    Peer {
        name: "process-wrap",
        package: Some("process-wrap"),
        docs: "https://docs.rs/process-wrap/latest/process_wrap/tokio/trait.ChildWrapper.html",
        start: adapters::process_wrap::start,
        how: String::new,
        not_promised: &[NotPromised {
            fixtures: &["stopped"],
            why: NO_SIGCONT,
            link: "https://docs.rs/process-wrap/latest/process_wrap/tokio/trait.ChildWrapper.html#method.signal",
        }],
    },
    // Its `wait` "waits for the child group to exit completely": the whole group is promised.
    Peer {
        name: "command-group",
        package: Some("command-group"),
        docs: "https://docs.rs/command-group/latest/command_group/struct.AsyncGroupChild.html",
        start: adapters::command_group::start,
        how: String::new,
        not_promised: &[NotPromised {
            fixtures: &["stopped"],
            why: NO_SIGCONT,
            link: "https://docs.rs/command-group/latest/command_group/trait.UnixChildExt.html",
        }],
    },
    Peer {
        name: "tokio-process-tools",
        package: Some("tokio-process-tools"),
        docs: "https://docs.rs/tokio-process-tools/latest/tokio_process_tools/struct.ProcessHandle.html#method.terminate",
        start: adapters::tokio_process_tools::start,
        how: String::new,
        not_promised: &[
            NotPromised {
                fixtures: OUTLIVED,
                why: "each phase waits for the child alone, and SIGKILL comes if the child outlives them",
                link: "https://docs.rs/crate/tokio-process-tools/latest#timeouts-are-upper-bounds-not-delays",
            },
            NotPromised {
                fixtures: &["orphan"],
                why: "a child that has exited already is observed without sending anything",
                link: "https://docs.rs/tokio-process-tools/latest/tokio_process_tools/struct.ProcessHandle.html#method.terminate",
            },
            NotPromised {
                fixtures: &["stopped"],
                why: NO_SIGCONT,
                link: "https://docs.rs/crate/tokio-process-tools/latest#which-signal-should-i-send",
            },
        ],
    },
    Peer {
        name: "processkit",
        package: Some("processkit"),
        docs: "https://docs.rs/processkit/latest/processkit/struct.ProcessGroup.html#method.shutdown",
        start: adapters::processkit::start,
        how: adapters::processkit::mechanism,
        not_promised: &[NotPromised {
            fixtures: &["stopped"],
            why: "shutdown is SIGTERM, wait, SIGKILL; resuming is a call of its own",
            link: "https://docs.rs/processkit/latest/processkit/struct.ProcessGroup.html#method.shutdown",
        }],
    },
    Peer {
        name: "kill_tree",
        package: Some("kill_tree"),
        docs: "https://docs.rs/kill_tree/latest/kill_tree/tokio/fn.kill_tree_with_config.html",
        start: adapters::kill_tree::start,
        how: String::new,
        not_promised: &[
            NotPromised {
                fixtures: &["orphan", "double-fork", "fork-storm"],
                why: "it kills a process and its children recursively; these have lost their parent",
                link: "https://docs.rs/kill_tree/latest/kill_tree/tokio/fn.kill_tree_with_config.html",
            },
            NotPromised {
                fixtures: &["stubborn-child", "late-fork"],
                why: "it sends one signal and does not wait; a wait for the leader sees that gone",
                link: "https://docs.rs/kill_tree/latest/kill_tree/tokio/fn.kill_tree.html",
            },
            NotPromised {
                fixtures: &["stopped"],
                why: NO_SIGCONT,
                link: "https://docs.rs/kill_tree/latest/kill_tree/tokio/fn.kill_tree.html",
            },
        ],
    },
    Peer {
        name: "tokio Child::kill",
        package: Some("tokio"),
        docs: "https://docs.rs/tokio/latest/tokio/process/struct.Child.html#method.kill",
        start: adapters::tokio_child::start,
        how: String::new,
        not_promised: &[
            NotPromised {
                fixtures: &[
                    "deep-tree",
                    "double-fork",
                    "fork-storm",
                    "forking",
                    "full-pipe",
                    "late-fork",
                    "orphan",
                    "respawn",
                    "second-term",
                    "sigterm-exit-code",
                    "stopped",
                    "stubborn-child",
                ],
                why: "it kills the child, not the child's children",
                link: "https://docs.rs/tokio/latest/tokio/process/struct.Child.html#method.kill",
            },
            NotPromised {
                fixtures: &["ignore-term", "slow-exit"],
                why: "it sends SIGKILL at once: there is no grace",
                link: "https://docs.rs/tokio/latest/tokio/process/struct.Child.html#method.start_kill",
            },
        ],
    },
    Peer {
        name: "GNU timeout",
        package: None,
        docs: "https://www.gnu.org/software/coreutils/manual/html_node/timeout-invocation.html",
        start: adapters::gnu_timeout::start,
        how: String::new,
        not_promised: &[NotPromised {
            fixtures: &["stubborn-child", "late-fork", "double-fork", "orphan"],
            why: "it minds the COMMAND: when that has ended, so has timeout, and nothing is killed any more",
            link: "https://www.gnu.org/software/coreutils/manual/html_node/timeout-invocation.html",
        }],
    },
    Peer {
        name: CONTROL,
        package: None,
        docs: "../README.md#the-trap",
        start: adapters::naive::start,
        how: String::new,
        not_promised: &[],
    },
];

impl Peer {
    pub(crate) fn named(name: &str) -> Option<&'static Peer> {
        ALL.iter().find(|peer| peer.name == name)
    }

    pub(crate) fn not_promised(&self, fixture: &str) -> Option<&'static NotPromised> {
        self.not_promised.iter().find(|not| not.fixtures.contains(&fixture))
    }

    /// As the lock file has it; of a program, as it says itself; of a function without a crate, nothing.
    pub(crate) fn version(&self) -> String {
        let Some(package) = self.package else {
            let said = std::process::Command::new("timeout").arg("--version").output();
            let said = said.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
            let version = said.lines().next().and_then(|line| line.rsplit(' ').next()).unwrap_or_default();
            return if self.name == "GNU timeout" { version.to_owned() } else { String::new() };
        };
        let lock = include_str!("../Cargo.lock");
        let entry = lock.split("[[package]]").find(|entry| entry.contains(&format!("\nname = \"{package}\"\n")));
        let version = entry.and_then(|entry| entry.split("version = \"").nth(1)?.split('"').next());
        version.unwrap_or("unknown").to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use deadbeat::fixture;

    #[test]
    fn what_is_not_promised_is_a_fixture_named_once_with_a_link() {
        for peer in ALL {
            let all: Vec<_> = peer.not_promised.iter().flat_map(|not| not.fixtures).collect();
            assert!(all.iter().all(|name| fixture::named(name).is_some()), "{}: {all:?}", peer.name);
            let distinct: std::collections::BTreeSet<_> = all.iter().collect();
            assert_eq!(distinct.len(), all.len(), "{}: {all:?}", peer.name);
            assert!(peer.not_promised.iter().all(|not| not.link.starts_with("https://")), "{}", peer.name);
        }
    }

    #[test]
    fn a_version_is_that_of_the_lock_file() {
        for peer in ALL.iter().filter(|peer| peer.package.is_some()) {
            assert!(peer.version().starts_with(|c: char| c.is_ascii_digit()), "{}: {}", peer.name, peer.version());
        }
    }

    #[test]
    fn an_adapter_fits_on_thirty_lines() {
        let files = std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/src/adapters")).expect("adapters");
        for file in files.flatten() {
            let text = std::fs::read_to_string(file.path()).expect("text");
            assert!(text.lines().count() <= 30, "{}: {} lines", file.path().display(), text.lines().count());
        }
    }
}
