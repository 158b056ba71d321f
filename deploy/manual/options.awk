# Write a manual page from its template: the line @OPTIONS@ becomes what the program itself says about
# its options.   awk -v program=PATH -f options.awk duet-router.8.in

function safe(text) {
    gsub(/\\/, "\\e", text)
    gsub(/[.] +/, ".\n", text) # sentences begin on lines of their own
    return text
}

# "  --slots=N      operations in flight; ... (16..1048576, default 65536)"
function item(line,    words, name, argument, sentence) {
    split(line, words, " ")
    name = words[1]
    sub(/^--/, "", name)
    argument = name ~ /=/ ? substr(name, index(name, "=") + 1) : ""
    sub(/=.*/, "", name)
    sentence = line
    sub(/^ *[^ ]+ +/, "", sentence)
    print ".It Fl \\-" name (argument == "" ? "" : " Ns = Ns Ar " tolower(argument))
    print "\\&" safe(sentence)
}

/^@OPTIONS@$/ {
    print ".Bl -tag -width Ds"
    command = program " --help"
    while ((command | getline line) > 0)
        if (line ~ /^  --/)
            item(line)
    print ".El"
    next
}
{ print }
