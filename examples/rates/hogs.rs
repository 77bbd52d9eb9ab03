//! CPU hogs: processes that only spin, and end with the one that started them.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};

pub(crate) struct Hogs(Vec<Child>);

impl Hogs {
    /// Returns when every one of them has had a CPU.
    pub(crate) fn start(count: usize) -> Self {
        let program = std::env::current_exe().expect("this program");
        let mut hogs = Self(Vec::new());
        for _ in 0..count {
            let hog = Command::new(&program).arg("--hog").stdin(Stdio::null()).stdout(Stdio::piped()).spawn();
            hogs.0.push(hog.expect("a hog"));
        }
        for hog in &mut hogs.0 {
            let mut ready = String::new();
            BufReader::new(hog.stdout.as_mut().expect("piped")).read_line(&mut ready).expect("a hog's word");
        }
        hogs
    }
}

impl Drop for Hogs {
    fn drop(&mut self) {
        for hog in &mut self.0 {
            hog.kill().and_then(|()| hog.wait()).expect("a hog's end");
        }
    }
}

pub(crate) fn be_one() -> ! {
    println!("ready");
    std::io::stdout().flush().expect("stdout");
    let parent = std::os::unix::process::parent_id();
    loop {
        for _ in 0..10_000_000 {
            std::hint::black_box(0);
        }
        if std::os::unix::process::parent_id() != parent {
            std::process::exit(0);
        }
    }
}
