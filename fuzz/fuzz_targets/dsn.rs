//! See `petasos_transports::fuzzing::dsn`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| petasos_transports::fuzzing::dsn(input));
