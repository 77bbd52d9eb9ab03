//! The kill function on real processes: what it makes of each fixture, and what it may never do.

mod ladder_on_fixtures;
