#![no_main]

automodel_fuzz::libfuzzer_target!("template");
