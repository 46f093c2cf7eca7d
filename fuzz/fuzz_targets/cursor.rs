//! See `petasos_protocol::fuzzing::cursor`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| petasos_protocol::fuzzing::cursor(input));
