# Sourced: fingerprint PATH... prints one hash over the names and contents of the files under the paths.
fingerprint() {
  find "$@" -type f -print0 | LC_ALL=C sort -z | xargs -0 sha256sum | sha256sum | cut -d' ' -f1
}
