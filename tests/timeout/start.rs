//! A start that fails says at which step: what deadbeat prepares is its own failure (125), the exec has GNU's statuses.

use std::os::unix::process::CommandExt;
use std::process::Command;

use nix::libc::{EPERM, PR_SET_PDEATHSIG, SYS_prctl, SYS_setpgid};
use rstest::rstest;
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
    apply_filter,
};

use crate::support::{Tool, text};

/// What this program and all that it starts may not do (EPERM).
fn without(command: &mut Command, call: i64, first_argument: Option<i32>) {
    let rules = first_argument.map(|value| {
        let condition = SeccompCondition::new(0, SeccompCmpArgLen::Dword, SeccompCmpOp::Eq, value as u64).unwrap();
        SeccompRule::new(vec![condition]).unwrap()
    });
    let rules = [(call, rules.into_iter().collect())].into_iter().collect();
    let (denied, arch) = (SeccompAction::Errno(EPERM as u32), std::env::consts::ARCH.try_into().unwrap());
    let filter: BpfProgram = SeccompFilter::new(rules, SeccompAction::Allow, denied, arch).unwrap().try_into().unwrap();
    deny(command, filter);
}

#[expect(unsafe_code, reason = "what is called between fork and exec are system calls only")]
fn deny(command: &mut Command, filter: BpfProgram) {
    // SAFETY: see `reason`.
    unsafe { command.pre_exec(move || apply_filter(&filter).map_err(|_| std::io::Error::from_raw_os_error(EPERM))) };
}

#[rstest]
#[case::foreground(&["-f", "10", "true"])]
#[case::no_grace(&["-k", "0", "10", "true"])]
fn what_deadbeat_cannot_prepare_is_said_to_be_so(#[case] args: &[&str]) {
    let mut command = Tool::Deadbeat.command(args);
    without(&mut command, SYS_prctl, Some(PR_SET_PDEATHSIG));
    let output = command.output().unwrap();
    let words = "deadbeat timeout: cannot start command 'true': failed to have it signalled when deadbeat dies: \
                 Operation not permitted\n";
    assert_eq!((output.status.code(), text(&output.stderr)), (Some(125), words.to_owned()));
}

#[rstest]
#[case::whole(&["10", "true"])]
#[case::no_grace(&["-k", "0", "10", "true"])]
fn a_group_that_cannot_be_begun_is_a_failure_of_deadbeats(#[case] args: &[&str]) {
    let mut command = Tool::Deadbeat.command(args);
    without(&mut command, SYS_setpgid, None);
    let output = command.output().unwrap();
    let words = "deadbeat timeout: cannot start command 'true': Operation not permitted\n";
    assert_eq!((output.status.code(), text(&output.stderr)), (Some(125), words.to_owned()));
}

/// The control of both: the same error, of the exec.
#[rstest]
fn an_exec_that_is_denied_is_a_command_that_cannot_be_run(
    #[values(&["10", "/no/such/command"], &["10", "/"])] args: &[&str],
    #[values("-k5", "-k0", "-f")] option: &str,
) {
    let output = Tool::Deadbeat.command(&[&[option], args].concat()).output().unwrap();
    let (status, words) = if args[1] == "/" { (126, "Permission denied") } else { (127, "No such file or directory") };
    let words = format!("deadbeat timeout: failed to run command '{}': {words}\n", args[1]);
    assert_eq!((output.status.code(), text(&output.stderr)), (Some(status), words));
}
