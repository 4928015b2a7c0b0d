// sse PORT CONC SECONDS NCHUNKS DELAY_US : closed loop of CONC streams. Prints JSON.
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <errno.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <time.h>
#include <stdint.h>
typedef struct { int fd; int st; /*0 hdr 1 body*/ char h[8192]; int hl; int cst; long crem; char sz[32]; int szl; char line[4096]; int ll; uint64_t t0,last; int nch; int done; int chunked; long clen; int close_;} C;
static uint64_t now(void){struct timespec t;clock_gettime(CLOCK_MONOTONIC,&t);return t.tv_sec*1000000000ull+t.tv_nsec;}
static float *ttfb,*lag,*gap; static long nt,nl,ng; static long CAP=4000000; static long streams,chunks,errs,bytes,short_; static int port,N; static long D; static uint64_t tend,tmeas; static int ep; static char req[4096]; static int reql;
static long expect;
static int cmpf(const void*a,const void*b){float x=*(float*)a,y=*(float*)b;return x<y?-1:x>y;}
static float pc(float*a,long n,double p){ if(!n)return -1; long i=p*(n-1); return a[i]; }
static void conn(C*c){ c->fd=socket(AF_INET,SOCK_STREAM,0); struct sockaddr_in a={.sin_family=AF_INET,.sin_port=htons(port),.sin_addr.s_addr=htonl(INADDR_LOOPBACK)}; int one=1; setsockopt(c->fd,IPPROTO_TCP,TCP_NODELAY,&one,4); if(connect(c->fd,(void*)&a,sizeof a)){perror("connect");exit(1);} struct epoll_event e={.events=EPOLLIN,.data.ptr=c}; epoll_ctl(ep,EPOLL_CTL_ADD,c->fd,&e); }
static void start(C*c){ c->st=c->hl=c->cst=c->szl=c->ll=c->nch=c->done=0; c->crem=0; c->t0=now(); c->last=0; if(send(c->fd,req,reql,MSG_NOSIGNAL)!=reql){errs++;} }
static void line(C*c,uint64_t t){ if(c->ll<6||memcmp(c->line,"data:",5))return; 
  if(strstr(c->line,"[DONE]")){c->done=1;return;}
  char*p=memmem(c->line,c->ll,"\"t=",3); if(!p) return; uint64_t ts=strtoull(p+3,0,10); 
  c->nch++; if(t>=tmeas){ chunks++; if(nl<CAP)lag[nl++]=(t-ts)/1e3f; if(c->nch==1){ if(nt<CAP) ttfb[nt++]=(t-c->t0)/1e3f; } else if(ng<CAP) gap[ng++]=(t-c->last)/1e3f; } c->last=t; }
static void body(C*c,const char*b,long n,uint64_t t){ bytes+=n; for(long i=0;i<n;i++){ if(b[i]=='\n'){ c->line[c->ll]=0; line(c,t); c->ll=0; } else if(c->ll<4095) c->line[c->ll++]=b[i]; } }
// returns 1 when message ended
static int feed(C*c,const char*b,long n,uint64_t t){ while(n>0){
  if(c->st==0){ c->h[c->hl++]=*b++; n--; if(c->hl>8190) return -1; if(c->hl>=4&&!memcmp(c->h+c->hl-4,"\r\n\r\n",4)){ c->h[c->hl]=0; if(!strstr(c->h," 200")){ fprintf(stderr,"bad: %.300s\n",c->h); return -1;} c->chunked=strcasestr(c->h,"transfer-encoding: chunked")!=0; c->close_=strcasestr(c->h,"connection: close")!=0; char*q=strcasestr(c->h,"content-length:"); c->clen=q?atol(q+15):-1; c->st=1; } continue; }
  if(!c->chunked){ body(c,b,n,t); if(c->clen>=0){c->clen-=n; if(c->clen<=0) return 1;} return 0; }
  if(c->cst==0){ char ch=*b++; n--; if(ch=='\n'){ c->sz[c->szl]=0; c->crem=strtol(c->sz,0,16); c->szl=0; c->cst=c->crem?1:3; } else if(c->szl<31) c->sz[c->szl++]=ch; continue; }
  if(c->cst==1){ long k=n<c->crem?n:c->crem; body(c,b,k,t); b+=k;n-=k;c->crem-=k; if(!c->crem)c->cst=2; continue; }
  if(c->cst==2){ char ch=*b++; n--; if(ch=='\n')c->cst=0; continue; }
  if(c->cst==3){ char ch=*b++; n--; if(ch=='\n') return 1; continue; } }
  return 0; }
int main(int ac,char**av){ port=atoi(av[1]); int K=atoi(av[2]); double S=atof(av[3]); N=atoi(av[4]); D=atol(av[5]); ep=epoll_create1(0);
  ttfb=malloc(4*CAP);lag=malloc(4*CAP);gap=malloc(4*CAP);
  char bd[2048]; char seed[64]=""; if(D) sprintf(seed,"\"seed\": %ld, ",D); char pr[401]; memset(pr,'a',400); pr[400]=0;
  int bl=sprintf(bd,"{\"model\": \"m\", \"stream\": true, \"max_tokens\": %d, %s\"stream_options\": {\"include_usage\": true}, \"messages\": [{\"role\": \"user\", \"content\": \"%s\"}]}",N,seed,pr);
  reql=sprintf(req,"POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nAuthorization: Bearer %s\r\nContent-Type: application/json\r\n%sContent-Length: %d\r\n\r\n%s",port,getenv("KEY")?getenv("KEY"):"sk-bench",getenv("XH")?getenv("XH"):"",bl,bd);
  C*c=calloc(K,sizeof(C)); for(int i=0;i<K;i++)conn(c+i); uint64_t t=now(); tmeas=t+(uint64_t)(0.2*S*1e9); tend=t+(uint64_t)(S*1e9); 
  for(int i=0;i<K;i++){start(c+i); if(D&&K>1&&i%8==7) usleep(D*8/K>2000?2000:D*8/K);} struct epoll_event ev[512]; char *b=malloc(1<<20);
  while((t=now())<tend){ int n=epoll_wait(ep,ev,512,100); for(int i=0;i<n;i++){ C*x=ev[i].data.ptr; long r=recv(x->fd,b,1<<20,MSG_DONTWAIT); uint64_t tt=now(); int e=0; if(r<=0){ if(r<0&&errno==EAGAIN)continue; e=(x->st==1&&!x->chunked&&x->clen<0)?1:-1; if(e<0)errs++; close(x->fd); if(e==1&&tt>=tmeas){streams++; if(x->nch!=N)short_++;} conn(x); start(x); continue; }
      e=feed(x,b,r,tt); if(e<0){errs++;close(x->fd);if(errs>50){fprintf(stderr,"too many errors\n");exit(2);}conn(x);start(x);} else if(e==1){ if(tt>=tmeas){streams++; if(x->nch!=N||!x->done)short_++;} if(x->close_){close(x->fd);conn(x);} start(x);} } }
  double el=(now()-tmeas)/1e9; qsort(ttfb,nt,4,cmpf);qsort(lag,nl,4,cmpf);qsort(gap,ng,4,cmpf);
  printf("{\"streams_s\": %.1f, \"chunks_s\": %.0f, \"ttfc_p50_us\": %.0f, \"ttfc_p99_us\": %.0f, \"lag_p50_us\": %.0f, \"lag_p99_us\": %.0f, \"gap_p50_us\": %.0f, \"gap_p99_us\": %.0f, \"errs\": %ld, \"bad\": %ld}\n",streams/el,chunks/el,pc(ttfb,nt,.5),pc(ttfb,nt,.99),pc(lag,nl,.5),pc(lag,nl,.99),pc(gap,ng,.5),pc(gap,ng,.99),errs,short_); }
