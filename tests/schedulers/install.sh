#!/usr/bin/env bash
# Copies this clone and its environment to a folder that an ordinary user can read:
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
# Remove those of other clones, of 2 GB each.
find "$folder" -maxdepth 1 -name 'hpc_deepfake-*' ! -path "$env" -exec rm -rf {} +
# The project is installed in place; the copied environment must use the copied clone.
sed -i "s|'$clone/|'$target/|g" "$env"/lib/python*/site-packages/__editable__*
sed -i "s|$clone|$target|g" "$env/stamps/project"
ln -sfn "$env" "$folder/env"
# STAGE_ENV unpacks this tar on the nodes, which the user can't make again. Apply the same change: a
# later file in a tar replaces an earlier one.
rm -f "$env"/stage-*
cp "$tar" "$env/"
(cd "$env" && tar -rf "$(basename "$tar")" ./lib/python*/site-packages/__editable__* ./stamps/project)
