#!/usr/bin/perl
# SPDX-License-Identifier: GPL-3.0-or-later
# Runs each command line of standard input with qemu-img and with our tool and prints one TAP line: output, errors and
# exit status must be the same but for the tool's name. What our sentences say more than theirs is cut off: the field
# and its value in parentheses at the end of a line of errors.
#
#   same.pl IMG NUMBER COUNTS <LIST      NUMBER tests were printed before; the file COUNTS gets "tests failures"
#
# A line is split as the shell splits words, with quotes. Behind "rm NAME...:" the files are removed before each run;
# behind "json:" the output is compared as JSON, so that [] may be printed in two ways.
use strict;
use warnings;
use Text::ParseWords qw(shellwords);

my ($img, $tests, $counts) = @ARGV;
my $failures = 0;
$| = 1;

sub slurp {
    open my $in, '<:raw', $_[0] or die "$_[0]: $!";
    local $/;
    return scalar(<$in>) // '';
}

sub output_of {
    my ($json, $tool, @arguments) = @_;
    my $pid = fork // die "fork: $!";
    if (!$pid) {
        open STDIN, '<', '/dev/null';
        open STDOUT, '>', '.same.out';
        open STDERR, '>', '.same.err';
        exec $tool, @arguments or die "$tool: $!";
    }
    waitpid $pid, 0;
    my $status = $? & 127 ? 'signal ' . ($? & 127) : $? >> 8;
    my ($out, $err) = (slurp('.same.out'), slurp('.same.err'));
    s/\bqemu-img\b/img/g for $out, $err;
    $out =~ s/\[\n +\]/[]/g if $json;
    $err =~ s/ \([^()\n]* = [^()\n]*\)$//mg;
    $err =~ s/\n?\z/\n/ if $err ne '';
    return "status $status\n$out-- errors --\n$err";
}

while (my $line = <STDIN>) {
    chomp $line;
    next if $line =~ /^\s*(#|$)/;
    my $rest = $line;
    my $json = $rest =~ s/^json:\s*//;
    my @gone = $rest =~ s/^rm ([^:]*):\s*// ? split(' ', $1) : ();
    my @arguments = shellwords($rest);
    my $theirs;
    for (1 .. 10) { # QEMU cannot measure its key derivation on a busy machine, and gives up
        unlink @gone;
        $theirs = output_of($json, 'qemu-img', @arguments);
        last if $theirs !~ /accurate CPU usage/;
    }
    unlink @gone;
    my $ours = output_of($json, $img, @arguments);
    $tests++;
    if ($ours eq $theirs) {
        print "ok $tests - as qemu-img: $line\n";
        next;
    }
    $failures++;
    print "not ok $tests - as qemu-img: $line\n";
    print map { "# $_\n" } 'ours:', split(/\n/, $ours), 'theirs:', split(/\n/, $theirs);
}
unlink '.same.out', '.same.err';
open my $out, '>', $counts or die "$counts: $!";
print $out "$tests $failures\n";
