//! The pages for people, whose examples are compiled as those of the library are.

#[doc = include_str!("../README.md")]
struct Readme;

#[doc = include_str!("../docs/attribute.md")]
struct Attribute;

#[doc = include_str!("../docs/conformance.md")]
struct Conformance;

#[doc = include_str!("../docs/heartbeat.md")]
struct Heartbeat;
