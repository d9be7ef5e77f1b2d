//! The whole program, as a user runs it: each test starts the binary in a folder of its own, over embedded
//! databases, and looks at what it says, how it ends and what lies in the target afterwards.

mod anew;
mod cello;
mod cello_repair;
mod changed;
mod contramate;
mod copy;
mod copy_faults;
mod copy_files;
mod copy_items;
mod costs;
mod demo;
mod environments;
mod errors;
mod faults;
mod interruption;
mod items;
mod kills;
mod letters;
mod logs;
mod parcels;
mod place;
mod query;
mod redaction;
mod rejects;
mod report;
mod secrets;
mod servers;
mod sqlite;
mod streams;
mod texts;
mod values;
mod verify;
