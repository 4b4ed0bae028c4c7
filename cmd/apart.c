/* SPDX-License-Identifier: GPL-3.0-or-later */
/* apart.c - see apart.h. */
#include "apart.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "report.h"

pid_t apart_start(void) {
    fflush(NULL);
    pid_t parent = getpid(), child = fork();
    if (child < 0)
        report("No second process can be made: %s", strerror(errno));
    if (child == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (getppid() != parent) /* it is gone already */
            _exit(1);
    }
    return child;
}

bool apart_end(pid_t child) {
    int status;
    while (waitpid(child, &status, 0) < 0)
        if (errno != EINTR)
            return false;
    if (WIFSIGNALED(status) && WTERMSIG(status) != SIGPIPE) /* nobody wanted more of its output */
        report("The process that reads the disk was ended: %s", strsignal(WTERMSIG(status)));
    return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}
