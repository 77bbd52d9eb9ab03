//! The guardian, on real processes that really die.
//!
//! This program is four in one: the tests, the guardian (as any program whose `main` begins as this one does), the
//! parent that the tests kill, see `parent.rs`, and one with a tokio runtime and a run in it, see `runner.rs`.

#[cfg(target_os = "linux")]
mod alone;
#[cfg(target_os = "linux")]
mod clean;
#[cfg(target_os = "linux")]
mod death;
#[cfg(target_os = "linux")]
mod ends;
#[cfg(target_os = "linux")]
mod hidden;
#[cfg(target_os = "linux")]
#[path = "../common/ignored.rs"]
mod ignored;
#[cfg(target_os = "linux")]
mod impostors;
#[cfg(target_os = "linux")]
mod nested;
#[cfg(target_os = "linux")]
mod parent;
#[cfg(target_os = "linux")]
mod restart;
#[cfg(target_os = "linux")]
mod reuse;
#[cfg(target_os = "linux")]
mod runner;
#[cfg(target_os = "linux")]
mod signals;
#[cfg(target_os = "linux")]
mod steady;
#[cfg(target_os = "linux")]
mod support;
#[cfg(target_os = "linux")]
#[path = "../common/warnings.rs"]
mod warnings;

#[cfg(target_os = "linux")]
macro_rules! trials {
    ($($room:ident: $($test:ident)*;)*) => {
        vec![$($(libtest_mimic::Trial::test(concat!(stringify!($room), "::", stringify!($test)), || {
            $room::$test();
            Ok(())
        })),*),*]
    };
}

#[cfg(target_os = "linux")]
fn main() {
    if std::env::var_os(impostors::FORGETFUL).is_some() {
        return impostors::forgetful();
    }
    deadbeat::guardian::main_if_requested();
    if std::env::var_os(parent::ROLE).is_some() {
        return parent::main();
    }
    if std::env::var_os(runner::ROLE).is_some() {
        return runner::main();
    }
    hidden::listen_for_warnings();
    let trials = trials! {
        alone:
            it_has_a_session_of_its_own_and_holds_nothing_but_its_line
            it_has_no_name_of_the_program_that_it_guards
            it_has_one_even_if_the_parents_group_is_outside_its_pid_namespace
            signals_do_not_end_it
            it_may_open_as_much_as_it_can_be_allowed
            it_does_not_wait_for_a_child_that_outlives_the_parent
            nobody_can_start_it_by_hand;
        clean:
            after_a_clean_end_nothing_is_signalled
            a_released_child_is_not_touched_nor_what_escaped_from_it
            dropped_it_ends_like_its_parent_would_have
            a_dangerous_pgid_is_refused;
        death:
            a_killed_parent_leaves_nobody_of_ignore_term
            a_killed_parent_leaves_nobody_of_stubborn_child
            a_killed_parent_leaves_nobody_of_setsid_escape
            a_killed_parent_leaves_nobody_of_fork_storm
            an_aborted_parent_leaves_nobody
            a_group_killed_while_the_guardian_starts_leaves_nobody
            whoever_is_asked_to_end_is_let_finish
            a_child_that_was_never_registered_is_found_by_its_mark
            a_parent_killed_at_any_moment_leaves_nobody;
        ends:
            however_a_run_ends_nobody_is_left
            who_has_lost_its_mark_dies_with_its_group
            who_escaped_from_a_run_dies_with_it_and_is_let_finish
            who_escaped_from_one_that_leaves_its_leftovers_lives_on
            the_control_without_a_guardian_a_killed_runner_leaves_survivors;
        hidden:
            who_cannot_be_read_dies_with_the_parent_and_with_the_run
            who_cannot_be_read_and_has_lost_its_parent_dies_with_the_parent
            who_cannot_be_told_is_named_and_left_alone;
        impostors:
            a_program_that_is_no_guardian_is_an_error
            one_that_runs_on_is_killed_with_what_it_started
            one_that_forgot_to_begin_with_it_does_not_start_itself_without_end;
        nested:
            a_run_within_a_run_dies_with_the_outer_one
            an_inner_run_dies_alone;
        restart:
            a_killed_guardian_is_replaced_and_told_everything
            one_that_cannot_be_replaced_is_an_error_and_no_more;
        reuse:
            a_number_that_became_a_strangers_before_the_guardian_looked_is_left_alone;
        signals:
            a_first_one_asks_and_a_second_one_kills_at_once
            one_that_was_ignored_at_the_start_stays_ignored;
        steady:
            no_worker_waits_for_a_guardian_that_does_not_listen
            one_guardian_serves_all_runs;
    };
    let mut arguments = libtest_mimic::Arguments::from_args();
    // They wait far more than they compute.
    arguments.test_threads.get_or_insert(8);
    libtest_mimic::run(&arguments, trials).exit();
}

#[cfg(not(target_os = "linux"))]
fn main() {}
