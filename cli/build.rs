//! Has the program built anew when a file is added to the chart that is in it.

fn main() {
    println!("cargo:rerun-if-changed=../charts/portcullis");
}
