# Text work in Perl for make bench: regular expressions, hashes, sorting, string building.
use strict;
use warnings;

my ($state, %seen, @lines) = (12345);

sub random {
    $state = ($state * 1103515245 + 12345) & 0x7fffffff;
    return $state >> 8;
}

for my $number (1 .. 25000) {
    my @words = map { join '', map { chr(97 + random() % 26) } 1 .. 2 + random() % 5 } 1 .. 4;
    push @lines, sprintf('%05d: user=%s host=%s.%s path=/%s/%d', $number, @words, random() % 1000);
}
my ($matched, $total) = (0, 0);
for (@lines) {
    if (my @part = /^(\d+): user=([a-z]+) host=([a-z.]+) path=\/(\w+)\/(\d+)$/) {
        $matched++;
        $total += $part[4];
        $seen{substr($part[1], 0, 2)} .= $part[2] if $part[3] =~ /^[^aeiou]*[aeiou]+/;
    }
    (my $copy = $_) =~ s/([aeiou])/uc $1/ge;
    $total += ($copy =~ tr/A-Z//);
}
my @order = sort { length $seen{$b} <=> length $seen{$a} || $a cmp $b } keys %seen;
print "$matched $total ", scalar(@order), " $order[0] $order[-1]\n";
