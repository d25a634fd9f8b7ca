#!/usr/bin/env bash
# Copies this clone and its environment to where an ordinary user can read them:
#     install.sh FOLDER       FOLDER/my clone (a path with a space) and FOLDER/env
set -euo pipefail
folder=$1
clone=$(CDPATH='' cd -- "$(dirname -- "${BASH_SOURCE[0]}")/../.." && pwd -P)
target="$folder/my clone"

rm -rf "$target"
mkdir -p "$target"
git -C "$clone" ls-files -z --cached --others --exclude-standard |
    tar -C "$clone" --null --files-from=- --ignore-failed-read -cf - | tar -C "$target" -xf -

tar=$("$clone/env/stage.sh" pack)
env=$("$clone/env/stage.sh" unpack "$tar" "$folder")
# Those of other clones are 2 GB each.
find "$folder" -maxdepth 1 -name 'hpc_deepfake-*' ! -path "$env" -exec rm -rf {} +
# It was installed in place of the clone; the copy takes the clone's copy.
sed -i "s|'$clone/|'$target/|g" "$env"/lib/python*/site-packages/__editable__*
ln -sfn "$env" "$folder/env"
# What STAGE_ENV unpacks on nodes is this tar once more, which the user may not pack anew: with the
# same change, for a later file in a tar takes the place of an earlier one.
rm -f "$env"/stage-*
cp "$tar" "$env/"
(cd "$env" && tar -rf "$(basename "$tar")" ./lib/python*/site-packages/__editable__*)
