#!/bin/sh
# Runs the programs of this folder and prints their results; the same on every machine.
cd "$(dirname "$0")" || exit 1
node node.js
luajit lua.lua
luajit -joff lua.lua | sed 's/^/interpreted /'
luajit -O3 -Ohotloop=3 -Ohotexit=2 lua.lua | sed 's/^/hot /'
pcre2test -q pcre2.txt
/usr/bin/python3 python.py
echo RAN-ALL
